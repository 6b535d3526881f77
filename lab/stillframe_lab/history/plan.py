"""The cells: which arm plays which variant, at which delay and budget, the most informative first.

Knows arms and numbers; plays nothing.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from stillframe.history.settings import HistorySettings
from stillframe.reuse.settings import ReuseSettings
from stillframe_client.sim.cues import SIMPLE
from stillframe_lab.history.arms import ARMS, BOUNDED, FULL, GATE, LINEAR, OFF, SAMPLING, WINDOW

DELAYS = SHORT, MIDDLE, LONG = 16, 60, 120  # steps
BUDGETS = 3, 4, 8  # chunks, a frame each
BUDGET = 4  # where budgets are not compared
HARD, DECOYS = "ordered", "ordered-distractor"
PROOF = "proof"  # all cells of these variants at the longest delay
PROOFS = SIMPLE, "distractor"  # one cube to reach: with full history the policy does it
TELLING = GATE, FULL, WINDOW, LINEAR, SAMPLING
TELLING_FIRST = (*TELLING, OFF, *(arm for arm in ARMS if arm not in (*TELLING, OFF)))
EPISODES, SEED = 30, 40_000  # training draws from 500 000 and 700 000 on
PROOF_EPISODES = 100  # of each cell of the proof
NOISE_SIGMA = 2.0  # grey levels, so that no two frames are equal


@dataclass(frozen=True)
class HistoryCell:
    """One line of a table."""

    arm: str
    variant: str
    delay: int  # steps
    chunks: int | None  # None: no history, or unbounded
    episodes: int
    seed: int
    checkpoint: Path
    history: HistorySettings  # the deployment's
    noise_sigma: float = NOISE_SIGMA

    @property
    def key(self) -> tuple[str, str, int, int | None]:
        """What tells it from every other cell of a plan."""
        return (self.arm, self.variant, self.delay, self.chunks)

    @property
    def name(self) -> str:
        """The name of its result file."""
        room = "" if self.chunks is None else f"-{self.chunks}"
        return f"{self.arm}{room}--{self.variant}-{self.delay}"


@dataclass(frozen=True)
class HistoryPlan:
    """What to play and time."""

    checkpoint: Path
    reuse: ReuseSettings  # the settings of mode adaptive
    history: HistorySettings  # the deployment's
    episodes: int = EPISODES  # of each cell
    seed: int = SEED
    variant: str = HARD
    proof_episodes: int = PROOF_EPISODES  # of each cell of the proof

    def cells(self) -> Iterator[HistoryCell]:
        """Every cell once, in the order in which they are played."""
        yield from self.proof()
        if self.variant not in PROOFS:
            yield from self._compared(TELLING_FIRST, self.variant, LONG)
        yield from self._compared(TELLING_FIRST, self.variant, MIDDLE)
        for chunks in BUDGETS:
            if chunks != BUDGET:
                yield from self._compared(
                    [arm for arm in TELLING_FIRST if arm in BOUNDED], self.variant, MIDDLE, chunks
                )
        yield from self._compared(TELLING_FIRST, self.variant, SHORT)
        if self.variant != DECOYS:
            yield from self._compared((GATE, LINEAR, FULL, WINDOW), DECOYS, MIDDLE)

    def proof(self) -> Iterator[HistoryCell]:
        """Every arm after the longest delay where the policy itself hardly fails, so that what was kept decides."""
        for arms in (TELLING, TELLING_FIRST[len(TELLING) :]):
            for variant in PROOFS:
                for cell in self._compared(arms, variant, LONG):
                    yield replace(cell, episodes=self.proof_episodes)

    def _compared(self, arms: Iterable[str], variant: str, delay: int, chunks: int = BUDGET) -> Iterator[HistoryCell]:
        for arm in arms:
            room = chunks if arm in BOUNDED else None
            yield HistoryCell(arm, variant, delay, room, self.episodes, self.seed, self.checkpoint, self.history)


def origin_of(what: Any, weights: str) -> dict[str, Any]:
    """All that a result depends on, as JSON: a cell or a plan, and the checkpoint's digest."""
    origin: dict[str, Any] = json.loads(json.dumps({**asdict(what), "weights": weights}, default=str))
    return origin
