"""Behaviour cloning of jaco-tiny: what a run learns from, and what it tells.

Knows batches and the objective; the loop is run.py's, demonstrations are somebody else's work.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from stillframe.models.openvla.pixels import PixelPipeline
from stillframe.models.openvla.prompt import PromptEncoder
from stillframe_client.sim import COLOURS
from stillframe_lab.train.batches import BatchSource
from stillframe_lab.train.frame_store import FrameStore
from stillframe_lab.train.new_checkpoint import (
    PREPROCESSOR_JSON,
    build_tokenizer,
    load_network,
    new_network,
    save_checkpoint,
)
from stillframe_lab.train.objective import Batch, Objective, Trainee
from stillframe_lab.train.recipe import INSTRUCTIONS, Recipe
from stillframe_lab.train.sequences import SharedPrefix
from stillframe_lab.train.trainer import MAX_PROMPT_TOKENS, Trainer


@dataclass(frozen=True)
class Progress:
    """What a progress bar shows."""

    step: int
    steps: int
    loss: float
    xyz_error: float
    pointer_hits: float
    images_per_s: float


class CloningTrainer(Trainer):
    """One training run in one folder."""

    def __init__(self, folder: Path, recipe: Recipe, device: torch.device, start: Path | None = None):
        """Begin, or resume where `folder` stands. `start` is a checkpoint to begin from, None: from nothing."""
        folder.mkdir(parents=True, exist_ok=True)
        torch.manual_seed(recipe.seed)
        self.recipe = recipe
        self.device = device
        self.trainee = _trainee(folder, recipe, device, start)
        super().__init__(folder, recipe, recipe, self.trainee, self.trainee.network, device)

    def run(
        self,
        demos: Sequence[FrameStore],
        rounds: Sequence[FrameStore],
        until: int,
        report: Callable[[Progress], None],
    ) -> None:
        """Train up to step `until`, saving on the way."""
        recipe = self.recipe
        source = BatchSource(
            demos,
            rounds,
            PixelPipeline.from_config(PREPROCESSOR_JSON),
            dagger_draw=recipe.dagger_draw,
            noise_max=recipe.noise_sigma_max,
        )

        def draw(rng: np.random.Generator) -> Batch:
            return source.draw(recipe.batch_images, rng).to(self.device)

        def learn(batch: Batch, generator: torch.Generator) -> Objective:
            objective: Objective = self.trainee(batch, generator)
            return objective

        self.go(until, draw, learn, lambda objective, steps_per_s: report(self._told(objective, steps_per_s)))

    def export(self, folder: Path) -> None:
        """Write the slow copy as a checkpoint that the daemon serves."""
        weights = {name: tensor.cpu() for name, tensor in self.slow.weights.items()}
        save_checkpoint(folder, weights, self.recipe)

    def _told(self, objective: Objective, steps_per_s: float) -> Progress:
        progress = Progress(
            self.step,
            self.recipe.steps,
            float(objective.action),
            float(objective.xyz_error),
            float(objective.pointer_hits),
            steps_per_s * self.recipe.batch_images,
        )
        self.log(progress)
        return progress


def _trainee(folder: Path, recipe: Recipe, device: torch.device, start: Path | None) -> Trainee:
    """A fresh network, or an earlier one's weights, with the six instructions' shared sequence."""
    network = new_network(recipe) if start is None else load_network(start, recipe)
    tokenizer = folder / "tokenizer.json"
    build_tokenizer().save(str(tokenizer))
    encoder = PromptEncoder(tokenizer, MAX_PROMPT_TOKENS)
    prompts = [encoder.ids(goal.instruction) for goal in INSTRUCTIONS]
    sequence = SharedPrefix.build(prompts, len(recipe.cameras) * network.config.towers[0].grid ** 2)
    cube_of = torch.tensor([COLOURS.index(goal.colour) for goal in INSTRUCTIONS], device=device)
    return Trainee(network, recipe, sequence.to(device), cube_of).to(device)
