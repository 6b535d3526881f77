"""Behaviour cloning: batches of labelled frames and their log, for any policy; and jaco-tiny's network and losses.

Knows batches and the objective; the loop is trainer.py's, demonstrations are collected in demonstrations.py.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor, nn

from stillframe.models.prismatic.pixels import PixelPipeline
from stillframe.models.prismatic.prompt import PromptEncoder
from stillframe_client.sim import COLOURS
from stillframe_lab.train.batches import BatchSource
from stillframe_lab.train.frame_store import FrameStore
from stillframe_lab.train.new_checkpoint import (
    MAX_PROMPT_TOKENS,
    WORDS,
    build_tokenizer,
    load_network,
    preprocessor_json,
    save_checkpoint,
)
from stillframe_lab.train.objective import Batch, Objective, Trainee
from stillframe_lab.train.recipe import INSTRUCTIONS, Recipe
from stillframe_lab.train.sequences import SharedPrefix
from stillframe_lab.train.trainer import Trainer


@dataclass(frozen=True)
class Progress:
    """A line of the training log."""

    step: int
    steps: int
    loss: float
    xyz_error: float
    pointer_hits: float
    images_per_s: float


B = TypeVar("B")  # a batch
JACO_INSTRUCTIONS = tuple(goal.instruction for goal in INSTRUCTIONS)


class Cloning(Trainer[B, Objective, Progress]):
    """Trains one kind of policy. A subclass says which: its networks, its batches, their losses, its files."""

    def __init__(self, folder: Path, recipe: Any, trainee: nn.Module, policy: nn.Module, device: torch.device):
        """Begin, or resume the run in `folder`. `policy`: the part of `trainee` that goes into the checkpoint."""
        self.recipe, self.device, self.trainee = recipe, device, trainee.to(device)
        super().__init__(folder, recipe, recipe, self.trainee, policy, device)

    def run(
        self,
        demos: Sequence[FrameStore],
        rounds: Sequence[FrameStore],
        until: int,
        on_log: Callable[[Progress], None],
    ) -> None:
        """Train on demonstrations and DAgger rounds up to step `until`."""
        recipe, pixels = self.recipe, PixelPipeline.from_config(preprocessor_json(self.recipe.image_px))
        source = BatchSource(demos, rounds, pixels, dagger_draw=recipe.dagger_draw, noise_max=recipe.noise_sigma_max)
        self.fit(lambda rng: self.batch(source, rng), until, on_log)

    def batch(self, source: BatchSource, rng: np.random.Generator) -> B:
        """A batch of the source's frames, on the device."""
        raise NotImplementedError

    def loss(self, batch: B, generator: torch.Generator) -> Objective:
        """See Trainer."""
        objective: Objective = self.trainee(batch, generator)
        return objective

    @property
    def averaged(self) -> dict[str, Tensor]:
        """The policy's EMA, in the host's memory."""
        return {name: tensor.cpu() for name, tensor in self.ema.weights.items()}

    def progress(self, losses: Objective, steps_per_s: float) -> Progress:
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


class CloningTrainer(Cloning[Batch]):
    """Trains the network of jaco-tiny."""

    def __init__(self, folder: Path, recipe: Recipe, device: torch.device, start: Path | None = None):
        """Begin, or resume the run in `folder`. `start`: a checkpoint to begin from; None: random weights."""
        ids = prompts(folder)
        torch.manual_seed(recipe.seed)
        trainee = _trainee(ids, recipe, device, start)
        super().__init__(folder, recipe, trainee, trainee.network, device)

    def batch(self, source: BatchSource, rng: np.random.Generator) -> Batch:
        """See Cloning."""
        return source.draw(self.recipe.batch_images, rng).to(self.device)

    def export(self, folder: Path) -> None:
        """See Cloning."""
        save_checkpoint(folder, self.averaged, self.recipe)


def prompts(
    folder: Path,
    instructions: Sequence[str] = JACO_INSTRUCTIONS,
    words: Sequence[str] = WORDS,
    ending: Sequence[int] = (),
) -> list[list[int]]:
    """The ids of each instruction, by a tokenizer of these words that is written into `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / "tokenizer.json"
    build_tokenizer(words).save(str(file))
    encoder = PromptEncoder(file, MAX_PROMPT_TOKENS, ending=tuple(ending))
    return [list(encoder.ids(instruction)) for instruction in instructions]


def _trainee(ids: Sequence[Sequence[int]], recipe: Recipe, device: torch.device, start: Path | None) -> Trainee:
    """A new network, or a checkpoint's weights, with the shared sequence of the six instructions."""
    network = load_network(start, recipe)
    sequence = SharedPrefix.build(ids, len(recipe.cameras) * network.config.towers[0].grid ** 2)
    cube_of = torch.tensor([COLOURS.index(goal.colour) for goal in INSTRUCTIONS], device=device)
    return Trainee(network, recipe, sequence.to(device), cube_of).to(device)
