"""ChunkTrainer: cloning of a policy that says chunks; a family brings its network, loss and files.

Knows batches; no architecture.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from stillframe.models.prismatic.checks import ACTION_NAMES
from stillframe.models.prismatic.prompt import PromptEncoder
from stillframe_lab.train.batches import BatchSource
from stillframe_lab.train.chunked.batches import ChunkBatch, draw_chunks
from stillframe_lab.train.chunked.labels import ChunkCollection
from stillframe_lab.train.chunked.recipe import ChunkRecipe
from stillframe_lab.train.cloning import Cloning
from stillframe_lab.train.demonstrations import Mixture
from stillframe_lab.train.new_checkpoint import MAX_PROMPT_TOKENS, build_tokenizer
from stillframe_lab.train.objective import Objective
from stillframe_lab.train.recipe import INSTRUCTIONS

ACTION_DIM = len(ACTION_NAMES)


class ChunkTrainer(Cloning[ChunkBatch]):
    """Trains one policy."""

    @staticmethod
    def collection(recipe: ChunkRecipe, frames: int, seed: tuple[int, ...], mixture: Mixture) -> ChunkCollection:
        """The frames that a recipe is trained on."""
        return ChunkCollection(frames, seed, mixture, recipe.cameras, recipe.horizon)

    def batch(self, source: BatchSource, rng: np.random.Generator) -> ChunkBatch:
        """See Cloning."""
        return draw_chunks(source, self.recipe.batch_images, rng).to(self.device)

    def loss(self, batch: ChunkBatch, generator: torch.Generator) -> Objective:
        """See Trainer."""
        objective: Objective = self.trainee(batch, generator)
        return objective


def prompts(folder: Path, ending: Sequence[int] = ()) -> list[list[int]]:
    """The ids of each of INSTRUCTIONS, by a tokenizer that is written into `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / "tokenizer.json"
    build_tokenizer().save(str(file))
    encoder = PromptEncoder(file, MAX_PROMPT_TOKENS, ending=tuple(ending))
    return [list(encoder.ids(goal.instruction)) for goal in INSTRUCTIONS]


def under(weights: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """The tensors whose names begin so, named without it."""
    return {name.removeprefix(prefix): weights[name].contiguous() for name in weights if name.startswith(prefix)}
