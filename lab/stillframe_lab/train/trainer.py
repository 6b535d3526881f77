"""One training run in one folder: the loop, its checkpoints, its log. Resumes where it was stopped.

Knows steps, time and files; not what is learnt, nor from what.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any, Protocol, TypeVar

import numpy as np
import torch
from torch import Tensor, nn

from stillframe.errors import ConfigError
from stillframe_lab.train.recipe import Recipe


class EMA:
    """Exponential moving average of a module's parameters."""

    def __init__(self, module: nn.Module, decay: float):
        self.weights: dict[str, Tensor] = {
            name: tensor.detach().clone() for name, tensor in module.state_dict().items()
        }
        self._decay = decay

    @torch.no_grad()
    def follow(self, module: nn.Module, step: int) -> None:
        """Move a little towards the module; early steps move more."""
        decay = min(self._decay, (1 + step) / (10 + step))
        for name, tensor in module.state_dict().items():
            self.weights[name].lerp_(tensor.detach(), 1 - decay)


STATE_NAME = "state.pt"
LOG_NAME = "metrics.jsonl"
SAVE_EVERY_STEPS = 100
LOG_EVERY_STEPS = 20
MAX_PROMPT_TOKENS = 64


class HasLoss(Protocol):
    """What one batch came to."""

    @property
    def total(self) -> Tensor:
        """The loss that is stepped on."""
        ...


B = TypeVar("B")
L = TypeVar("L", bound=HasLoss)


class Trainer:
    """Steps of one trainee. Begun where its folder stands."""

    def __init__(
        self, folder: Path, recipe: Any, pace: Recipe, trainee: nn.Module, followed: nn.Module, device: torch.device
    ):
        """`recipe`: a dataclass, all that the run is made by; `pace`: the part that steps go by.

        `followed`: the network whose slow average is kept. Raises ConfigError for a folder of another recipe's run.
        """
        self.folder = folder
        self.step = 0
        self.slow = EMA(followed, pace.ema_decay)
        self._recipe, self._pace, self._device = recipe, pace, device
        self._trainee, self._followed = trainee, followed
        self._optimiser = torch.optim.AdamW(
            self.groups(), lr=pace.learning_rate, betas=pace.betas, weight_decay=pace.weight_decay
        )
        self._resume()

    def groups(self) -> list[dict[str, Any]]:
        """What is learnt: `params`, and at what `share` of the learning rate, where not at all of it."""
        return [{"params": [*self._trainee.parameters()]}]

    def go(
        self,
        until: int,
        draw: Callable[[np.random.Generator], B],
        learn: Callable[[B, torch.Generator], L],
        told: Callable[[L, float], None],
    ) -> None:
        """Train up to step `until`, saving on the way. `told` gets a step's objective, and steps a second till then."""
        started, first = time.monotonic(), self.step
        while self.step < until:
            objective = self._one_step(draw, learn)
            self.step += 1
            if self.step % LOG_EVERY_STEPS == 0 or self.step == until:
                told(objective, (self.step - first) / (time.monotonic() - started))
            if self.step % SAVE_EVERY_STEPS == 0 or self.step == until:
                self._save()

    def log(self, progress: Any) -> None:
        """One line of metrics.jsonl; `progress`: a dataclass with a `step`."""
        with (self.folder / LOG_NAME).open("a", encoding="utf-8") as log:
            log.write(json.dumps(asdict(progress)) + "\n")

    def _one_step(self, draw: Callable[[np.random.Generator], B], learn: Callable[[B, torch.Generator], L]) -> L:
        """Draw, forward in bf16, backward, clip, step, follow. Seeded by the step's number, so resuming repeats it."""
        pace = self._pace
        rng = np.random.default_rng((pace.seed, self.step))
        generator = torch.Generator().manual_seed(pace.seed * 1_000_003 + self.step)
        for group in self._optimiser.param_groups:
            group["lr"] = learning_rate(pace, self.step) * group.get("share", 1.0)
        batch = draw(rng)
        with torch.autocast(self._device.type, torch.bfloat16):
            objective = learn(batch, generator)
        self._optimiser.zero_grad(set_to_none=True)
        objective.total.backward()  # type: ignore[no-untyped-call]  # torch leaves it untyped
        torch.nn.utils.clip_grad_norm_(self._trainee.parameters(), pace.clip_norm)
        self._optimiser.step()
        self.slow.follow(self._followed, self.step)
        return objective

    def _save(self) -> None:
        """Everything that resuming needs; the rename makes it whole or absent."""
        state: dict[str, Any] = {
            "recipe": json.dumps(asdict(self._recipe)),
            "step": self.step,
            "trainee": self._trainee.state_dict(),
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
        state = torch.load(file, weights_only=True, map_location=self._device)
        if state["recipe"] != json.dumps(asdict(self._recipe)):
            raise ConfigError(f"{file} is a run of another recipe; give a new folder, or delete this one")
        self._trainee.load_state_dict(state["trainee"])
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
