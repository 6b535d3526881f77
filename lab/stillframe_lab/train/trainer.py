"""A training run in one folder: the loop, its checkpoints, its log. Resumes where it was stopped.

Knows steps, time and files; neither the data nor the loss, which subclasses bring.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any, Generic, Protocol, TypeVar

import numpy as np
import torch
from torch import Tensor, nn

from stillframe.errors import ConfigError
from stillframe.files.writing import write_whole
from stillframe_lab.train.recipe import Recipe

STATE_NAME = "state.pt"
LOG_NAME = "metrics.jsonl"
SAVE_EVERY_STEPS = 100
LOG_EVERY_STEPS = 20


class EMA:
    """Exponential moving average of a module's parameters."""

    def __init__(self, module: nn.Module, decay: float):
        self.weights: dict[str, Tensor] = {
            name: tensor.detach().clone() for name, tensor in module.state_dict().items()
        }
        self._decay = decay

    @torch.no_grad()
    def update(self, module: nn.Module, step: int) -> None:
        """Move a little towards the module; early steps move more."""
        decay = min(self._decay, (1 + step) / (10 + step))
        for name, tensor in module.state_dict().items():
            self.weights[name].lerp_(tensor.detach(), 1 - decay)


class HasLoss(Protocol):
    """The losses of one batch."""

    @property
    def total(self) -> Tensor:
        """The loss that is minimised."""
        ...


B = TypeVar("B")  # a batch
L = TypeVar("L", bound=HasLoss)  # its losses
P = TypeVar("P")  # a line of the log: a dataclass with a `step`


class Trainer(Generic[B, L, P]):
    """The training loop. A subclass says what a batch's loss is, and which figures the log has."""

    def __init__(
        self, folder: Path, recipe: Any, schedule: Recipe, trainee: nn.Module, averaged: nn.Module, device: torch.device
    ):
        """`recipe`: a dataclass, all that the run depends on; `schedule`: its optimiser, steps and seed.

        `averaged`: the network whose EMA is kept. Raises ConfigError for a folder of another recipe's run.
        """
        self.folder = folder
        self.step = 0
        self.ema = EMA(averaged, schedule.ema_decay)
        self._recipe, self._schedule, self._device = recipe, schedule, device
        self._trainee, self._averaged = trainee, averaged
        self._optimiser = torch.optim.AdamW(
            self.parameter_groups(),
            lr=schedule.learning_rate,
            betas=schedule.betas,
            weight_decay=schedule.weight_decay,
        )
        self._resume()

    def loss(self, batch: B, generator: torch.Generator) -> L:
        """The losses of one batch, under autocast; `generator` is seeded by the step."""
        raise NotImplementedError

    def progress(self, losses: L, steps_per_s: float) -> P:
        """The figures of a step that is logged; `steps_per_s`: mean since this process began."""
        raise NotImplementedError

    def parameter_groups(self) -> list[dict[str, Any]]:
        """What is trained: `params`, and at what `share` of the learning rate, 1 if not said."""
        return [{"params": [*self._trainee.parameters()]}]

    def fit(self, draw: Callable[[np.random.Generator], B], until: int, on_log: Callable[[P], None]) -> None:
        """Train on batches from `draw` up to step `until`, saving on the way; `on_log` gets each line of the log."""
        started, first = time.monotonic(), self.step
        while self.step < until:
            losses = self._one_step(draw)
            self.step += 1
            if self.step % LOG_EVERY_STEPS == 0 or self.step == until:
                line = self.progress(losses, (self.step - first) / (time.monotonic() - started))
                self._write_log(line)
                on_log(line)
            if self.step % SAVE_EVERY_STEPS == 0 or self.step == until:
                self._save()

    def _one_step(self, draw: Callable[[np.random.Generator], B]) -> L:
        """Draw, forward in bf16 where that is fast, backward, clip, step, average.

        Seeded by the step's number, so resuming repeats it.
        """
        schedule = self._schedule
        rng = np.random.default_rng((schedule.seed, self.step))
        generator = torch.Generator().manual_seed(schedule.seed * 1_000_003 + self.step)
        for group in self._optimiser.param_groups:
            group["lr"] = learning_rate(schedule, self.step) * group.get("share", 1.0)
        batch = draw(rng)
        with torch.autocast(self._device.type, torch.bfloat16, enabled=has_fast_bf16(self._device)):
            losses = self.loss(batch, generator)
        self._optimiser.zero_grad(set_to_none=True)
        losses.total.backward()  # type: ignore[no-untyped-call]  # torch leaves it untyped
        torch.nn.utils.clip_grad_norm_(self._trainee.parameters(), schedule.clip_norm)
        self._optimiser.step()
        self.ema.update(self._averaged, self.step)
        return losses

    def _write_log(self, line: Any) -> None:
        with (self.folder / LOG_NAME).open("a", encoding="utf-8") as log:
            log.write(json.dumps(asdict(line)) + "\n")

    def _save(self) -> None:
        """Write all that resuming needs."""
        state: dict[str, Any] = {
            "recipe": json.dumps(asdict(self._recipe)),
            "step": self.step,
            "trainee": self._trainee.state_dict(),
            "slow": self.ema.weights,
            "optimiser": self._optimiser.state_dict(),
        }
        write_whole(self.folder / STATE_NAME, partial(torch.save, state))

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
        self.ema.weights = state["slow"]
        self.step = state["step"]
        self._truncate_log(self.step)

    def _truncate_log(self, step: int) -> None:
        """Drop the log's lines of steps that were lost between the last save and the stop."""
        log = self.folder / LOG_NAME
        if log.is_file():
            lines = log.read_text(encoding="utf-8").splitlines(keepends=True)
            log.write_text("".join(line for line in lines if json.loads(line)["step"] <= step), encoding="utf-8")


def has_fast_bf16(device: torch.device) -> bool:
    """Whether autocast to bfloat16 pays: on a CPU without instructions for it a step took 30 times as long."""
    if device.type != "cpu":
        return True
    return any(torch.cpu.get_capabilities().get(name, False) for name in ("avx512_bf16", "amx_bf16", "sve_bf16"))


def learning_rate(recipe: Recipe, step: int) -> float:
    """Linear warm-up, constant, then linear to zero."""
    warm = min(1.0, (step + 1) / recipe.warmup_steps)
    start = recipe.decay_from * recipe.steps
    cool = min(1.0, (recipe.steps - step) / (recipe.steps - start))
    return recipe.learning_rate * warm * cool
