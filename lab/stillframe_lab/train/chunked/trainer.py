"""ChunkTrainer: cloning of a policy that says chunks; a family brings its network, loss and files.

Knows batches; no architecture.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from torch import Tensor

from stillframe_lab.train.batches import BatchSource
from stillframe_lab.train.chunked.batches import ChunkBatch, draw_chunks
from stillframe_lab.train.chunked.labels import ChunkCollection
from stillframe_lab.train.chunked.recipe import ChunkRecipe
from stillframe_lab.train.cloning import Cloning
from stillframe_lab.train.demonstrations import Mixture


class ChunkTrainer(Cloning[ChunkBatch]):
    """Trains one policy."""

    @staticmethod
    def collection(recipe: ChunkRecipe, frames: int, seed: tuple[int, ...], mixture: Mixture) -> ChunkCollection:
        """The frames that a recipe is trained on."""
        return ChunkCollection(frames, seed, mixture, recipe.cameras, recipe.horizon)

    def batch(self, source: BatchSource, rng: np.random.Generator) -> ChunkBatch:
        """See Cloning."""
        return draw_chunks(source, self.recipe.batch_images, rng).to(self.device)


def under(weights: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """The tensors whose names begin so, named without it."""
    return {name.removeprefix(prefix): weights[name].contiguous() for name in weights if name.startswith(prefix)}
