"""Behaviour cloning with a history: the loop, its checkpoints, its log. Resumes where it was stopped.

Knows batches, the objective and time; scenes are somebody else's work.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from stillframe.errors import ConfigError
from stillframe.memory.files import has_memory, load_memory
from stillframe.models.prompt import PromptEncoder
from stillframe.train.cloning import (
    LOG_EVERY_STEPS,
    LOG_NAME,
    MAX_PROMPT_TOKENS,
    SAVE_EVERY_STEPS,
    STATE_NAME,
    learning_rate,
)
from stillframe.train.ema import SlowCopy
from stillframe.train.fresh import fresh_network, network_from
from stillframe.train.memory.objective import MemoryObjective, MemoryTrainee
from stillframe.train.memory.recipe import MemoryRecipe
from stillframe.train.memory.scenery import Scenery
from stillframe.train.sequences import SharedPrefix
from stillframe.train.tokenizer import build_tokenizer
from stillframe_client.sim import Goal

INSTRUCTION = {1: Goal("remember", "red").instruction, 2: Goal("remember", "red", then="green").instruction}  # by cues


@dataclass(frozen=True)
class MemoryProgress:
    """What a progress bar shows."""

    step: int
    steps: int
    loss: float
    xyz_error: float
    pointer_hits: float
    colour_hits: float
    summary_hits: float
    images_per_s: float


class MemoryCloning:
    """One training run in one folder."""

    def __init__(self, folder: Path, recipe: MemoryRecipe, device: torch.device, start: Path | None = None):
        """Begin, or resume where `folder` stands. `start` is a checkpoint to begin from, None: from nothing."""
        folder.mkdir(parents=True, exist_ok=True)
        torch.manual_seed(recipe.policy.seed)
        self.folder, self.recipe, self.device, self.step = folder, recipe, device, 0
        self.trainee = memory_trainee(folder, recipe, start).to(device)
        self.slow = SlowCopy(self.trainee, recipe.policy.ema_decay)
        policy = recipe.policy
        self._optimiser = torch.optim.AdamW(
            self.trainee.parameters(), lr=policy.learning_rate, betas=policy.betas, weight_decay=policy.weight_decay
        )
        self._resume()

    def run(self, scenery: Scenery, until: int, report: Callable[[MemoryProgress], None]) -> None:
        """Train up to step `until`, saving on the way."""
        started, first = time.monotonic(), self.step
        while self.step < until:
            objective = self._one_step(scenery)
            self.step += 1
            if self.step % LOG_EVERY_STEPS == 0 or self.step == until:
                pictures = 2 * (self.step - first) * self.recipe.policy.batch_images
                report(self._log(objective, pictures / (time.monotonic() - started)))
            if self.step % SAVE_EVERY_STEPS == 0 or self.step == until:
                self._save()

    def slow_trainee(self) -> MemoryTrainee:
        """The slow copy, to look at: a network of its own."""
        trainee = memory_trainee(self.folder, self.recipe, None)
        trainee.load_state_dict(self.slow.weights)
        return trainee.to(self.device).eval().requires_grad_(requires_grad=False)

    def _one_step(self, scenery: Scenery) -> MemoryObjective:
        """Draw, forward in bf16, backward, clip, step, follow. Seeded by the step's number, so resuming repeats it."""
        policy = self.recipe.policy
        rng = np.random.default_rng((policy.seed, self.step))
        generator = torch.Generator().manual_seed(policy.seed * 1_000_003 + self.step)
        for group in self._optimiser.param_groups:
            group["lr"] = learning_rate(policy, self.step)
        batch = scenery.draw(rng)
        with torch.autocast(self.device.type, torch.bfloat16):
            objective = self.trainee.learn(batch, generator)
        self._optimiser.zero_grad(set_to_none=True)
        objective.total.backward()  # type: ignore[no-untyped-call]  # torch leaves it untyped
        torch.nn.utils.clip_grad_norm_(self.trainee.parameters(), policy.clip_norm)
        self._optimiser.step()
        self.slow.follow(self.trainee, self.step)
        return objective

    def _log(self, objective: MemoryObjective, images_per_s: float) -> MemoryProgress:
        """One line of metrics.jsonl."""
        progress = MemoryProgress(
            step=self.step,
            steps=self.recipe.policy.steps,
            loss=float(objective.action),
            xyz_error=float(objective.xyz_error),
            pointer_hits=float(objective.pointer_hits),
            colour_hits=float(objective.colour_hits),
            summary_hits=float(objective.summary_hits),
            images_per_s=images_per_s,
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


def memory_trainee(folder: Path, recipe: MemoryRecipe, start: Path | None) -> MemoryTrainee:
    """A fresh network, or an earlier one's weights, with the task's instruction once for each branch."""
    network = fresh_network(recipe.policy) if start is None else network_from(start, recipe.policy)
    tokenizer = folder / "tokenizer.json"
    build_tokenizer().save(str(tokenizer))
    encoder, patches = PromptEncoder(tokenizer, MAX_PROMPT_TOKENS), network.config.towers[0].grid ** 2
    sequences = {
        cues: SharedPrefix.build([encoder.ids(said)] * recipe.branches, patches) for cues, said in INSTRUCTION.items()
    }
    trainee = MemoryTrainee(network, recipe, sequences)
    if start is not None and has_memory(start):
        trainee.pooling.load_state_dict(load_memory(start, torch.device("cpu")).pooling.state_dict())
    return trainee
