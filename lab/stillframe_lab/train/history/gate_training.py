"""Training of the gate on episodes of summaries, by truncated backpropagation, and of the linear scorer.

Knows summaries and labels; no policy and no pixels. Labels are distilled from the attention of a policy with full
history: an end-to-end gradient through a bias on attention is too weak, for ignored chunks need no bias.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from stillframe.history.checkpoint import HistoryWeights
from stillframe_lab.train.history.gate_objective import (
    ChunkBatch,
    ScorerErrors,
    ScorerLogits,
    Scorers,
    scorer_errors,
    scorer_loss,
)
from stillframe_lab.train.history.recipe import MemoryRecipe
from stillframe_lab.train.trainer import Trainer

HELD_OUT_EVERY = 5  # one of so many episodes is held out
CPU = torch.device("cpu")


@dataclass(frozen=True)
class LabelledEpisode:
    """One episode of chunks with utility labels."""

    inputs: Tensor  # [chunks, inputs]
    worth: Tensor  # [chunks] in [0, 1]

    def first(self, most: int) -> LabelledEpisode:
        """Its first chunks: cues come early, and later frames are much alike."""
        return LabelledEpisode(self.inputs[:most], self.worth[:most])


@dataclass(frozen=True)
class GateProgress:
    """A line of the training log."""

    step: int
    steps: int
    loss: float
    learnt: ScorerErrors  # on the step's own batch
    held_out: ScorerErrors  # on the held-out episodes


@dataclass(frozen=True)
class GateObjective:
    """The loss of one batch, and its logits."""

    total: Tensor
    logits: ScorerLogits
    batch: ChunkBatch


class GateTrainer(Trainer[ChunkBatch, GateObjective, GateProgress]):
    """Trains the gate and the linear scorer on the same batches."""

    def __init__(self, folder: Path, weights: HistoryWeights, recipe: MemoryRecipe):
        """Begin with `weights`, which are trained in place, or resume the run in `folder`."""
        folder.mkdir(parents=True, exist_ok=True)
        self.recipe, self.scorers = recipe, Scorers(weights)
        self._held_out: ChunkBatch | None = None  # set by `run`
        super().__init__(folder, recipe, recipe.gate_schedule, self.scorers, self.scorers, CPU)

    def run(self, episodes: Sequence[LabelledEpisode], until: int, on_log: Callable[[GateProgress], None]) -> None:
        """Train up to step `until`; every fifth episode is held out."""
        learnt, held_out = split_held_out(episodes)
        if self.step == 0:
            self.scorers.fit(torch.cat([one.inputs for one in learnt]))
        self._held_out = self._batch(held_out)

        def draw(rng: np.random.Generator) -> ChunkBatch:
            return self._batch([learnt[pick] for pick in rng.integers(len(learnt), size=self.recipe.gate_batch)])

        self.fit(draw, until, on_log)

    def loss(self, batch: ChunkBatch, generator: torch.Generator) -> GateObjective:  # noqa: ARG002 (draws nothing)
        """See Trainer."""
        logits = self.scorers(batch.inputs, self.recipe.truncate)
        return GateObjective(scorer_loss(logits, batch, self.recipe.keep_share), logits, batch)

    def progress(self, losses: GateObjective, steps_per_s: float) -> GateProgress:  # noqa: ARG002 (not in this log)
        """See Trainer. Errors on the step's batch, and on the held-out episodes."""
        held_out = self._held_out or losses.batch
        with torch.no_grad():
            errors = scorer_errors(self.scorers(held_out.inputs, self.recipe.truncate), held_out)
        learnt = scorer_errors(losses.logits, losses.batch)
        return GateProgress(self.step, self.recipe.gate_steps, float(losses.total.detach()), learnt, errors)

    def _batch(self, episodes: Sequence[LabelledEpisode]) -> ChunkBatch:
        short = [one.first(self.recipe.gate_chunks) for one in episodes]
        columns = zip(*((one.inputs, one.worth, torch.ones_like(one.worth)) for one in short), strict=True)
        return ChunkBatch(*(pad_sequence([*column], batch_first=True) for column in columns))


def split_held_out(episodes: Sequence[LabelledEpisode]) -> tuple[list[LabelledEpisode], list[LabelledEpisode]]:
    """Training episodes and held-out ones, by position."""
    learnt = [one for at, one in enumerate(episodes) if at % HELD_OUT_EVERY != HELD_OUT_EVERY - 1]
    return learnt, [*episodes[HELD_OUT_EVERY - 1 :: HELD_OUT_EVERY]]
