"""InstructedTrainer: cloning from frames of one task each; LiberoTrainer: of LIBERO's. A family brings the rest.

Knows batches and instructions; no architecture.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from stillframe_lab.train.batches import BatchSource
from stillframe_lab.train.chunked.recipe import InstructedRecipe
from stillframe_lab.train.cloning import Cloning, prompts
from stillframe_lab.train.libero.batches import LiberoBatch, draw_frames
from stillframe_lab.train.libero.recipe import LiberoRecipe
from stillframe_lab.train.libero.words import INSTRUCTIONS, WORDS


class InstructedTrainer(Cloning[LiberoBatch]):
    """Trains one policy."""

    recipe: InstructedRecipe

    def batch(self, source: BatchSource, rng: np.random.Generator) -> LiberoBatch:
        """See Cloning."""
        recipe = self.recipe
        drawn = draw_frames(source, recipe.batch_images, len(recipe.cameras), recipe.horizon, rng)
        return drawn.to(self.device)


class LiberoTrainer(InstructedTrainer):
    """Trains one policy for a suite."""

    recipe: LiberoRecipe

    @staticmethod
    def texts(folder: Path, recipe: LiberoRecipe) -> list[list[int]]:
        """The ids behind BOS of each task's instruction, by a tokenizer that is written into `folder`."""
        return [ids[1:] for ids in prompts(folder, INSTRUCTIONS[recipe.suite], WORDS)]
