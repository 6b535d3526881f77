"""Behaviour cloning of jaco-tiny: the loop, its checkpoints, its log.

Knows batches, the objective and time; demonstrations are somebody else's work. Resumes where it was stopped.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from stillframe.errors import ConfigError
from stillframe.models.pixels import PixelPipeline
from stillframe.models.prompt import PromptEncoder
from stillframe.train.batches import BatchSource
from stillframe.train.ema import SlowCopy
from stillframe.train.frames import FrameStore
from stillframe.train.fresh import PREPROCESSOR_JSON, fresh_network, network_from, save_checkpoint
from stillframe.train.instructions import INSTRUCTIONS
from stillframe.train.objective import Objective, Trainee
from stillframe.train.recipe import Recipe
from stillframe.train.sequences import SharedPrefix
from stillframe.train.tokenizer import build_tokenizer
from stillframe_client.sim import COLOURS

STATE_NAME = "state.pt"
LOG_NAME = "metrics.jsonl"
SAVE_EVERY_STEPS = 100
LOG_EVERY_STEPS = 20
MAX_PROMPT_TOKENS = 64


@dataclass(frozen=True)
class Progress:
    """What a progress bar shows."""

    step: int
    steps: int
    loss: float
    xyz_error: float
    pointer_hits: float
    images_per_s: float


class Cloning:
    """One training run in one folder."""

    def __init__(self, folder: Path, recipe: Recipe, device: torch.device, start: Path | None = None):
        """Begin, or resume where `folder` stands. `start` is a checkpoint to begin from, None: from nothing."""
        folder.mkdir(parents=True, exist_ok=True)
        torch.manual_seed(recipe.seed)
        self.folder = folder
        self.recipe = recipe
        self.device = device
        self.step = 0
        self.trainee = _trainee(folder, recipe, device, start)
        self.slow = SlowCopy(self.trainee.network, recipe.ema_decay)
        self._optimiser = torch.optim.AdamW(
            self.trainee.parameters(), lr=recipe.learning_rate, betas=recipe.betas, weight_decay=recipe.weight_decay
        )
        self._resume()

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
        started, first = time.monotonic(), self.step
        while self.step < until:
            objective = self._one_step(source)
            self.step += 1
            if self.step % LOG_EVERY_STEPS == 0 or self.step == until:
                rate = (self.step - first) * recipe.batch_images / (time.monotonic() - started)
                report(self._log(objective, rate))
            if self.step % SAVE_EVERY_STEPS == 0 or self.step == until:
                self._save()

    def export(self, folder: Path) -> None:
        """Write the slow copy as a checkpoint that the daemon serves."""
        weights = {name: tensor.cpu() for name, tensor in self.slow.weights.items()}
        save_checkpoint(folder, weights, self.recipe)

    def _one_step(self, source: BatchSource) -> Objective:
        """Draw, forward in bf16, backward, clip, step, follow. Seeded by the step's number, so resuming repeats it."""
        recipe = self.recipe
        rng = np.random.default_rng((recipe.seed, self.step))
        generator = torch.Generator().manual_seed(recipe.seed * 1_000_003 + self.step)
        for group in self._optimiser.param_groups:
            group["lr"] = learning_rate(recipe, self.step)
        batch = source.draw(recipe.batch_images, rng).to(self.device)
        with torch.autocast(self.device.type, torch.bfloat16):
            objective: Objective = self.trainee(batch, generator)
        self._optimiser.zero_grad(set_to_none=True)
        objective.total.backward()  # type: ignore[no-untyped-call]  # torch leaves it untyped
        torch.nn.utils.clip_grad_norm_(self.trainee.parameters(), recipe.clip_norm)
        self._optimiser.step()
        self.slow.follow(self.trainee.network, self.step)
        return objective

    def _log(self, objective: Objective, images_per_s: float) -> Progress:
        """One line of metrics.jsonl."""
        progress = Progress(
            self.step,
            self.recipe.steps,
            float(objective.action),
            float(objective.xyz_error),
            float(objective.pointer_hits),
            images_per_s,
        )
        with (self.folder / LOG_NAME).open("a", encoding="utf-8") as log:
            log.write(json.dumps(asdict(progress)) + "\n")
        return progress

    def _save(self) -> None:
        """Everything that resuming needs; the rename makes it whole or absent."""
        state: dict[str, Any] = {
            "recipe": json.dumps(asdict(self.recipe)),
            "step": self.step,
            "trainee": self.trainee.state_dict(),
            "slow": self.slow.weights,
            "optimiser": self._optimiser.state_dict(),
        }
        part = self.folder / f"{STATE_NAME}.part"
        torch.save(state, part)
        part.rename(self.folder / STATE_NAME)

    def _resume(self) -> None:
        """Continue an earlier run of the same recipe."""
        file = self.folder / STATE_NAME
        if not file.is_file():
            return
        state = torch.load(file, weights_only=True, map_location=self.device)
        if state["recipe"] != json.dumps(asdict(self.recipe)):
            raise ConfigError(f"{file} is a run of another recipe; give a new folder, or delete this one")
        self.trainee.load_state_dict(state["trainee"])
        self._optimiser.load_state_dict(state["optimiser"])
        self.slow.weights = state["slow"]
        self.step = state["step"]
        self._forget_log_after(self.step)

    def _forget_log_after(self, step: int) -> None:
        """Drop the log's lines of steps that were lost between the last save and the stop."""
        log = self.folder / LOG_NAME
        if log.is_file():
            lines = log.read_text(encoding="utf-8").splitlines(keepends=True)
            log.write_text("".join(line for line in lines if json.loads(line)["step"] <= step), encoding="utf-8")


def learning_rate(recipe: Recipe, step: int) -> float:
    """Linear warm-up, constant, then linear to zero."""
    warm = min(1.0, (step + 1) / recipe.warmup_steps)
    start = recipe.decay_from * recipe.steps
    cool = min(1.0, (recipe.steps - step) / (recipe.steps - start))
    return recipe.learning_rate * warm * cool


def _trainee(folder: Path, recipe: Recipe, device: torch.device, start: Path | None) -> Trainee:
    """A fresh network, or an earlier one's weights, with the six instructions' shared sequence."""
    network = fresh_network(recipe) if start is None else network_from(start, recipe)
    tokenizer = folder / "tokenizer.json"
    build_tokenizer().save(str(tokenizer))
    encoder = PromptEncoder(tokenizer, MAX_PROMPT_TOKENS)
    prompts = [encoder.ids(goal.instruction) for goal in INSTRUCTIONS]
    sequence = SharedPrefix.build(prompts, len(recipe.cameras) * network.config.towers[0].grid ** 2)
    cube_of = torch.tensor([COLOURS.index(goal.colour) for goal in INSTRUCTIONS], device=device)
    return Trainee(network, recipe, sequence.to(device), cube_of).to(device)
