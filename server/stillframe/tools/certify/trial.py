"""Trial: every arm answers every tick, in turn, another one first each time; each answer is held to the plain one.

Knows arms and ticks; not how a checkpoint is loaded, and not what is written of it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from stillframe.domain import ActionChunk, PolicyInfo
from stillframe.tools.certify.arm import Answer, Arm
from stillframe.tools.certify.compare import TickComparison, compared
from stillframe.tools.certify.near_ties import NearTie, WatchedRunner, near_tie
from stillframe.tools.certify.ticks import Tick


@dataclass
class Trial:
    """One arm, and what became of it so far."""

    arm: Arm
    ticks: list[TickComparison] = field(default_factory=list)
    _hash: hashlib._Hash = field(default_factory=hashlib.sha256)

    def add(self, one: TickComparison, chunk: ActionChunk) -> None:
        """Its next answer."""
        self.ticks.append(one)
        self._hash.update(np.ascontiguousarray(chunk.actions, "<f8").tobytes())
        self._hash.update(np.ascontiguousarray(chunk.tokens, "<i8").tobytes())

    @property
    def sha256(self) -> str:
        """Over all its answers."""
        return self._hash.hexdigest()


def run_trials(trials: Sequence[Trial], ticks: Sequence[Tick], info: PolicyInfo, advance: Callable[[], None]) -> None:
    """Warm up, then show all ticks. The first trial is the plain arm's. `advance` is called after each tick."""
    for trial in trials:
        trial.arm.warm_up(ticks)
    for number in range(len(ticks)):
        first = number % len(trials)
        answers: dict[str, Answer] = {}
        for trial in (*trials[first:], *trials[:first]):
            answers[trial.arm.spec.name] = trial.arm.answer(ticks, number)
            trial.arm.rest()
        _compare(trials, answers, number, info)
        advance()


def _compare(trials: Sequence[Trial], answers: Mapping[str, Answer], number: int, info: PolicyInfo) -> None:
    plain_arm = trials[0].arm
    plain = answers[plain_arm.spec.name].step
    for trial in trials:
        spec, own = trial.arm.spec, answers[trial.arm.spec.name]
        chunk = own.step.chunk
        tie = None if spec.promise == "none" else _tie(plain_arm, plain.chunk, chunk)
        trial.add(compared(spec, number, plain, own.step, own.took, tie, info), chunk)


def _tie(plain_arm: Arm, plain: ActionChunk, other: ActionChunk) -> NearTie | None:
    """Where tokens differ: by how much the plain arm's was ahead."""
    runner = plain_arm.core.runner
    if not isinstance(runner, WatchedRunner) or plain.tokens.shape != other.tokens.shape:
        return None
    return None if (plain.tokens == other.tokens).all() else near_tie(runner, plain.tokens, other.tokens)
