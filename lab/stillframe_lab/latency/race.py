"""What takes part in a race, and the race: everybody about the same frames, in turn, another one first each time.

Knows a clock and answers; no model.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from stillframe.models.llama.draft import Ids
from stillframe.stopwatch import Clock
from stillframe_lab.evaluation.macs import Work
from stillframe_lab.latency.scene import Motion, Scene, Shot

LEAST = 3  # timed rounds, however long they take


@dataclass(frozen=True)
class Answer:
    """What one call took, of one robot's frame or of several robots' together."""

    stages_ms: Mapping[str, float]  # of the whole call
    passes: float  # of the decoder an action, mean over the robots
    accepted: float  # guessed tokens that the prefill found right, likewise
    reuse_ratio: float  # likewise
    tokens: tuple[Ids, ...]  # of each robot
    work: tuple[Work, ...] = ()  # what the call had to multiply and to read, product after product


class Contestant(Protocol):
    """One way to answer."""

    @property
    def entry(self) -> Entry:
        """What it is."""
        ...

    def before(self, scene: Scene, turn: int) -> None:
        """What has to be known before and is not timed."""
        ...

    def __call__(self, shots: Sequence[Shot]) -> Answer:
        """Each robot's JPEG to its action."""
        ...

    def after(self) -> None:
        """The pause, in which nobody waits."""
        ...


@dataclass(frozen=True)
class Entry:
    """A row of the table, as far as it is known before."""

    name: str
    dtype: str
    robots: int = 1
    motion: Motion = "moving"
    batch_of: str = ""  # the row that does the same for one robot at a time
    forced: bool = False  # something about it cannot be had in earnest: drafts that are known to be right


@dataclass
class Timed:
    """One contestant's frames as they come in."""

    entry: Entry
    total_ms: list[float] = field(default_factory=list)
    answers: list[Answer] = field(default_factory=list)


@dataclass(frozen=True)
class Limits:
    """How long a race goes on: so many timed rounds, or fewer if so much time has gone by."""

    rounds: int
    seconds: float
    warm_up: int = 3  # rounds: the first frame is everybody's keyframe, and kernels are made for new shapes


Watch = Callable[[str, int, int], None]  # stage, steps done, of how many


def race(
    contestants: Sequence[Contestant], scene: Scene, limits: Limits, clock: Clock, wall: Clock, watch: Watch
) -> list[Timed]:
    """Every contestant about every frame; the time that counts is `clock`'s, that of `limits` is `wall`'s."""
    timed = [Timed(contestant.entry) for contestant in contestants]
    for turn in range(limits.warm_up):
        _round(contestants, scene, turn, clock)
        watch("warming up", turn + 1, limits.warm_up)
    ends_s = wall() + limits.seconds
    for done in range(limits.rounds):
        if done >= LEAST and wall() > ends_s:
            break
        for place, (took_ms, answer) in _round(contestants, scene, limits.warm_up + done, clock).items():
            timed[place].total_ms.append(took_ms)
            timed[place].answers.append(answer)
        watch("timing", done + 1, limits.rounds)
    return timed


def _round(
    contestants: Sequence[Contestant], scene: Scene, turn: int, clock: Clock
) -> Mapping[int, tuple[float, Answer]]:
    """One frame, everybody."""
    places = [*range(len(contestants))]
    shift = turn % len(places)
    return {place: _asked(contestants[place], scene, turn, clock) for place in places[shift:] + places[:shift]}


def _asked(contestant: Contestant, scene: Scene, turn: int, clock: Clock) -> tuple[float, Answer]:
    entry = contestant.entry
    shots = [scene.shot(entry.motion, turn, robot) for robot in range(entry.robots)]
    contestant.before(scene, turn)
    asked_s = clock()
    answer = contestant(shots)
    took_ms = (clock() - asked_s) * 1e3
    contestant.after()
    return took_ms, answer
