"""ChunkActor: plays part of each chunk before its policy is asked again, as a robot does that keeps its rate.

Knows an actor that has whole chunks; no policy, no simulator and no clock.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from stillframe_client.sim.rollout import Episode
from stillframe_lab.evaluation.trace import Trace


class Chunked(Protocol):
    """An actor whose last answer is there as a whole."""

    @property
    def trace(self) -> Trace:
        """One frame for each answer."""
        ...

    @property
    def cameras(self) -> tuple[str, ...]:
        """The names of the policy's cameras."""
        ...

    @property
    def chunk(self) -> NDArray[np.float64]:
        """All actions [horizon, 7] of the last answer."""
        ...

    def __call__(self, observed: Mapping[str, Any]) -> NDArray[np.float64]:
        """The action due now."""
        ...

    def reset(self) -> None:
        """Begin an episode."""
        ...

    def rest(self) -> None:
        """Called in the pause after each answer."""
        ...


class ChunkActor:
    """An actor, of which `execute` actions of each answer are played, or as many as there are."""

    def __init__(self, actor: Chunked, execute: int):
        """Raises ValueError for fewer than one action."""
        if execute < 1:
            raise ValueError(f"execute is {execute}; expected one action or more")
        self._actor, self._execute = actor, execute
        self._left: list[NDArray[np.float64]] = []
        self.asked: list[bool] = []  # of each step: whether its action was asked for

    @property
    def trace(self) -> Trace:
        """One frame for each answer: fewer than there are steps."""
        return self._actor.trace

    @property
    def cameras(self) -> tuple[str, ...]:
        """The policy's."""
        return self._actor.cameras

    def __call__(self, observed: Mapping[str, Any]) -> NDArray[np.float64]:
        """The action [7] of this step."""
        self.asked.append(not self._left)
        if not self._left:
            self._actor(observed)
            self._left = list(self._actor.chunk[: self._execute])
        return self._left.pop(0)

    def reset(self) -> None:
        """Begin an episode: what was left of the last one's chunk is not played."""
        self._left.clear()
        self._actor.reset()

    def rest(self) -> None:
        """Once for each answer."""
        if self.asked[-1]:
            self._actor.rest()


def asked_ms(episodes: Iterable[Episode], asked: Sequence[bool]) -> list[float]:
    """The latencies of the steps whose action was asked for; `asked` has the last steps, those before are warm-up."""
    every = [ms for episode in episodes for ms in episode.act_ms]
    return [ms for ms, was_asked in zip(every, asked[len(asked) - len(every) :], strict=True) if was_asked]
