"""ChunkTrainer: the training loop of a policy that says chunks; a family brings its network, loss and files.

Knows batches and the log; no architecture.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from stillframe.models.prismatic.checks import ACTION_NAMES
from stillframe.models.prismatic.pixels import PixelPipeline
from stillframe.models.prismatic.prompt import PromptEncoder
from stillframe_lab.train.chunked.batches import ChunkBatch, ChunkBatchSource
from stillframe_lab.train.chunked.labels import ChunkCollection
from stillframe_lab.train.chunked.recipe import ChunkRecipe
from stillframe_lab.train.cloning import Progress
from stillframe_lab.train.demonstrations import Mixture
from stillframe_lab.train.frame_store import FrameStore
from stillframe_lab.train.new_checkpoint import MAX_PROMPT_TOKENS, PREPROCESSOR_JSON, build_tokenizer
from stillframe_lab.train.recipe import INSTRUCTIONS
from stillframe_lab.train.trainer import Trainer

ACTION_DIM = len(ACTION_NAMES)


@dataclass(frozen=True)
class ChunkObjective:
    """Losses of a batch: `total` is minimised, the rest is for people."""

    total: Tensor
    action: Tensor
    xyz_error: Tensor  # mean |predicted - label| of dx, dy, dz, in units of the speed limit
    pointer_hits: Tensor


class ChunkTrainer(Trainer[ChunkBatch, ChunkObjective, Progress]):
    """Trains one policy. Its EMA is exported."""

    def __init__(self, folder: Path, recipe: ChunkRecipe, trainee: nn.Module, policy: nn.Module, device: torch.device):
        """Begin, or resume the run in `folder`. `policy`: the part of `trainee` that goes into the checkpoint."""
        self.recipe, self.device, self.trainee = recipe, device, trainee.to(device)
        super().__init__(folder, recipe, recipe, self.trainee, policy, device)

    @staticmethod
    def collection(recipe: ChunkRecipe, frames: int, seed: tuple[int, ...], mixture: Mixture) -> ChunkCollection:
        """The frames that a recipe is trained on."""
        return ChunkCollection(frames, seed, mixture, recipe.cameras, recipe.horizon)

    def run(
        self,
        demos: Sequence[FrameStore],
        rounds: Sequence[FrameStore],
        until: int,
        on_log: Callable[[Progress], None],
    ) -> None:
        """Train on demonstrations and DAgger rounds up to step `until`."""
        recipe, pixels = self.recipe, PixelPipeline.from_config(PREPROCESSOR_JSON)
        source = ChunkBatchSource(
            demos, rounds, pixels, dagger_draw=recipe.dagger_draw, noise_max=recipe.noise_sigma_max
        )

        def draw(rng: np.random.Generator) -> ChunkBatch:
            return source.draw_chunks(recipe.batch_images, rng).to(self.device)

        self.fit(draw, until, on_log)

    def loss(self, batch: ChunkBatch, generator: torch.Generator) -> ChunkObjective:
        """See Trainer."""
        objective: ChunkObjective = self.trainee(batch, generator)
        return objective

    def progress(self, losses: ChunkObjective, steps_per_s: float) -> Progress:
        """See Trainer."""
        return Progress(
            self.step,
            self.recipe.steps,
            float(losses.action),
            float(losses.xyz_error),
            float(losses.pointer_hits),
            steps_per_s * self.recipe.batch_images,
        )

    def export(self, folder: Path) -> None:
        """Write the EMA as a checkpoint that the daemon serves."""
        raise NotImplementedError


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
