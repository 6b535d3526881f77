"""Learning what to keep: the gate over episodes of summaries, by truncated backpropagation, and the linear score.

Knows summaries and labels; no policy and no pixels. Labels are distilled from where a policy with all of its history
looked: an end-to-end gradient through the bias on its attention is too weak, for what is ignored needs no bias.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from stillframe.memory.files import Weights
from stillframe.train.memory.recipe import MemoryRecipe

LOG_NAME = "gate.jsonl"
STATE_NAME = "gate.pt"
LOG_EVERY_STEPS = 50


@dataclass(frozen=True)
class Labelled:
    """One episode of chunks."""

    inputs: Tensor  # [chunks, inputs]
    worth: Tensor  # [chunks] in [0, 1]

    def first(self, most: int) -> Labelled:
        """Its first chunks: cues come early, and what follows is much alike."""
        return Labelled(self.inputs[:most], self.worth[:most])


@dataclass(frozen=True)
class GateProgress:
    """What a progress bar shows. Errors are mean |utility - label| of chunks that are worth much, and of the others."""

    step: int
    steps: int
    loss: float
    worthy_error: float
    idle_error: float
    linear_worthy_error: float
    linear_idle_error: float


class Gating:
    """One run: both learnt scorers, on the same batches. Seeded by the step's number, and resumes where it stopped."""

    def __init__(self, folder: Path, weights: Weights, recipe: MemoryRecipe):
        folder.mkdir(parents=True, exist_ok=True)
        self.folder, self.weights, self.recipe, self.step = folder, weights, recipe, 0
        learnt = [*weights.gate.parameters(), *weights.linear.parameters()]
        for parameter in learnt:
            parameter.requires_grad = True
        self._optimiser = torch.optim.AdamW(learnt, lr=recipe.gate_rate, weight_decay=0.01)
        self._resume()

    def run(self, episodes: Sequence[Labelled], report: Callable[[GateProgress], None]) -> None:
        """Train up to the recipe's last step, saving on the way."""
        if self.step == 0:
            every = torch.cat([one.inputs for one in episodes])
            self.weights.gate.norm.fit(every)
            self.weights.linear.norm.fit(every)
        while self.step < self.recipe.gate_steps:
            progress = self._one_step(episodes)
            if self.step % LOG_EVERY_STEPS == 0 or self.step == self.recipe.gate_steps:
                with (self.folder / LOG_NAME).open("a", encoding="utf-8") as log:
                    log.write(json.dumps(asdict(progress)) + "\n")
                self._save()
                report(progress)

    def _one_step(self, episodes: Sequence[Labelled]) -> GateProgress:
        """A batch of episodes, from their first chunks to their last, a truncated stretch at a time."""
        rng = np.random.default_rng((self.recipe.policy.seed, self.step))
        rate = self.recipe.gate_rate * (1 - 0.95 * self.step / self.recipe.gate_steps)
        for group in self._optimiser.param_groups:
            group["lr"] = rate
        picks = rng.integers(len(episodes), size=self.recipe.gate_batch)
        inputs, worth, there = _padded([episodes[pick].first(self.recipe.gate_chunks) for pick in picks])
        said: list[Tensor] = []
        state, total = self.weights.gate.begin(len(picks)), 0.0
        alone = self.weights.linear(inputs)
        for first in range(0, inputs.shape[1], self.recipe.truncate):
            stretch = slice(first, first + self.recipe.truncate)
            logits, state = self._stretch(inputs[:, stretch], state.detach())
            loss = self._loss(logits, worth[:, stretch], there[:, stretch], there)
            loss = loss + self._loss(alone[:, stretch], worth[:, stretch], there[:, stretch], there)
            loss.backward(retain_graph=True)  # type: ignore[no-untyped-call]  # torch leaves it untyped
            total += float(loss.detach())
            said.append(logits.detach())
        torch.nn.utils.clip_grad_norm_([*self.weights.gate.parameters(), *self.weights.linear.parameters()], 1.0)
        self._optimiser.step()
        self._optimiser.zero_grad(set_to_none=True)
        self.step += 1
        errors = (*_errors(torch.cat(said, dim=1), worth, there), *_errors(alone.detach(), worth, there))
        return GateProgress(self.step, self.recipe.gate_steps, total, *errors)

    def _stretch(self, inputs: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        """Some chunks in a row [episodes, chunks, inputs] -> logits [episodes, chunks]."""
        said = []
        for chunk in inputs.unbind(1):
            logits, state = self.weights.gate(chunk, state)
            said.append(logits)
        return torch.stack(said, dim=1), state

    def _loss(self, logits: Tensor, worth: Tensor, there: Tensor, every: Tensor) -> Tensor:
        """Cross-entropy against the labels, as a share of the whole batch, and two-sided: as much kept as they say."""
        wrong = functional.binary_cross_entropy_with_logits(logits, worth, reduction="none")
        count = there.sum(1).clamp(min=1)
        more = ((torch.sigmoid(logits) - worth) * there).sum(1) / count
        share = there.sum() / every.sum()
        return (wrong * there).sum() / every.sum() + self.recipe.keep_share * share * more.square().mean()

    def _save(self) -> None:
        state = {"step": self.step, "weights": self.weights.state_dict(), "optimiser": self._optimiser.state_dict()}
        part = self.folder / f"{STATE_NAME}.part"
        torch.save(state, part)
        part.rename(self.folder / STATE_NAME)

    def _resume(self) -> None:
        file = self.folder / STATE_NAME
        if file.is_file():
            state = torch.load(file, weights_only=True)
            self.weights.load_state_dict(state["weights"])
            self._optimiser.load_state_dict(state["optimiser"])
            self.step = state["step"]


def _padded(episodes: Sequence[Labelled]) -> tuple[Tensor, Tensor, Tensor]:
    """Inputs [episodes, longest, inputs], labels and where there are any [episodes, longest]."""
    inputs = torch.nn.utils.rnn.pad_sequence([one.inputs for one in episodes], batch_first=True)
    worth = torch.nn.utils.rnn.pad_sequence([one.worth for one in episodes], batch_first=True)
    there = torch.nn.utils.rnn.pad_sequence([torch.ones_like(one.worth) for one in episodes], batch_first=True)
    return inputs, worth, there


def _errors(logits: Tensor, worth: Tensor, there: Tensor) -> tuple[float, float]:
    """Mean error of chunks that are worth more than a half, and of the others."""
    wrong, worthy = (torch.sigmoid(logits) - worth).abs(), worth > 0.5
    return tuple(float(wrong[chosen & (there > 0)].mean()) for chosen in (worthy, ~worthy))  # type: ignore[return-value]  # two
