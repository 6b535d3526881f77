"""Time several variants on the same frames, in turn, another one first each time.

Knows a clock and step results; no model.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from stillframe.models.llama.draft import Ids
from stillframe.stopwatch import Clock
from stillframe_lab.evaluation.macs import Work
from stillframe_lab.evaluation.turns import rotated, timed
from stillframe_lab.latency.scene import Motion, Scene, SceneFrame

MIN_ROUNDS = 3  # timed, however long they take


@dataclass(frozen=True)
class StepResult:
    """What one call took and did, for one robot's frame or a batch of robots'."""

    stages_ms: Mapping[str, float]  # of the whole call
    passes: float  # of the decoder an action, mean over the robots
    accepted: float  # guessed tokens that the prefill found right, likewise
    reuse_ratio: float  # likewise
    tokens: tuple[Ids, ...]  # of each robot; none where the action is not decoded
    work: tuple[Work, ...] = ()  # what the call had to multiply and to read, product after product
    chunks: tuple[NDArray[np.float64], ...] = ()  # of each robot [horizon, action_dim] in its units, if made


class Variant(Protocol):
    """One way to compute a step."""

    @property
    def entry(self) -> VariantInfo:
        """Its row of the table."""
        ...

    def before(self, scene: Scene, turn: int) -> None:
        """Prepare, untimed."""
        ...

    def __call__(self, shots: Sequence[SceneFrame]) -> StepResult:
        """Each robot's JPEG to its action."""
        ...

    def after(self) -> None:
        """Work in the pause after an answer, untimed."""
        ...


@dataclass(frozen=True)
class VariantInfo:
    """A row of the table, as far as it is known before the race."""

    name: str
    dtype: str
    robots: int = 1
    motion: Motion = "moving"
    batch_of: str = ""  # the row that does the same for one robot at a time
    forced: bool = False  # uses what a deployment cannot have: drafts that are known to be right


@dataclass
class VariantTimes:
    """One variant's steps as they are timed."""

    entry: VariantInfo
    total_ms: list[float] = field(default_factory=list)
    answers: list[StepResult] = field(default_factory=list)


@dataclass(frozen=True)
class RaceLimits:
    """When a race ends: after so many timed rounds, or earlier when the time is up."""

    rounds: int
    seconds: float
    warm_up: int = 3  # rounds: the first frame is a keyframe for all, and kernels are compiled for new shapes


Watch = Callable[[str, int, int], None]  # stage, steps done, of how many


def race(
    variants: Sequence[Variant], scene: Scene, limits: RaceLimits, clock: Clock, wall: Clock, watch: Watch
) -> list[VariantTimes]:
    """Every variant answers every frame; steps are timed by `clock`, `limits` by `wall`."""
    times = [VariantTimes(variant.entry) for variant in variants]
    for turn in range(limits.warm_up):
        _round(variants, scene, turn, clock)
        watch("warming up", turn + 1, limits.warm_up)
    ends_s = wall() + limits.seconds
    for done in range(limits.rounds):
        if done >= MIN_ROUNDS and wall() > ends_s:
            break
        for place, (took_ms, answer) in _round(variants, scene, limits.warm_up + done, clock).items():
            times[place].total_ms.append(took_ms)
            times[place].answers.append(answer)
        watch("timing", done + 1, limits.rounds)
    return times


def _round(
    variants: Sequence[Variant], scene: Scene, turn: int, clock: Clock
) -> Mapping[int, tuple[float, StepResult]]:
    """Every variant answers one frame."""
    return {place: _asked(variants[place], scene, turn, clock) for place in rotated([*range(len(variants))], turn)}


def _asked(variant: Variant, scene: Scene, turn: int, clock: Clock) -> tuple[float, StepResult]:
    entry = variant.entry
    shots = [scene.shot(entry.motion, turn, robot) for robot in range(entry.robots)]
    variant.before(scene, turn)
    took_ms, result = timed(lambda: variant(shots), clock)
    variant.after()
    return took_ms, result
