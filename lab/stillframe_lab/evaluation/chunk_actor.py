"""ChunkActor: plays part of each chunk before its policy is asked again, as a robot does that waits for each answer.

Knows an actor that has whole chunks; no policy, no simulator and no clock.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from itertools import chain
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from stillframe_client.sim.rollout import Episode
from stillframe_lab.evaluation.trace import Trace


class Actor(Protocol):
    """A policy that keeps a trace of its answers, the last of them whole; actors.py has two."""

    @property
    def trace(self) -> Trace:
        """One frame for each answer."""
        ...

    @property
    def cameras(self) -> tuple[str, ...]:
        """The names of the policy's cameras."""
        ...

    @property
    def horizon(self) -> int:
        """Actions in a chunk."""
        ...

    @property
    def execute(self) -> int:
        """Actions of each chunk that are played where the evaluation does not say how many."""
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

    def rest(self, executed: int | None = None) -> None:
        """Called in the pause after each answer, of which `executed` actions are played; None: all."""
        ...


class ChunkActor:
    """An actor, of which `execute` actions of each answer are played, or as many as there are."""

    def __init__(self, actor: Actor, execute: int, sources: Mapping[str, str] | None = None):
        """`sources`: the policy's camera -> the one whose picture it gets; None: it gets all as they are.

        Raises ValueError for fewer than one action.
        """
        if execute < 1:
            raise ValueError(f"execute is {execute}; expected one action or more")
        self._actor, self._execute, self._sources = actor, execute, sources
        self._left: list[NDArray[np.float64]] = []

    def __call__(self, observed: Mapping[str, Any]) -> NDArray[np.float64]:
        """The action [7] of this step."""
        self._actor.trace.asked.append(self.asks)
        if self.asks:
            self._actor(self._seen(observed))
            self._left = list(self._actor.chunk[: self._execute])
        return self._left.pop(0)

    @property
    def asks(self) -> bool:
        """Whether the next action is asked for; else it comes out of the last answer, and no observation is read."""
        return not self._left

    def reset(self) -> None:
        """Begin an episode: what was left of the last one's chunk is not played."""
        self._left.clear()
        self._actor.reset()

    def rest(self) -> None:
        """Once for each answer."""
        if self._actor.trace.asked[-1]:
            self._actor.rest(self._execute)

    def warm_up(self, observed: Mapping[str, Any], answers: int) -> None:
        """Begin an episode and answer one frame so many times; nothing of it stays in the trace."""
        self.reset()
        for _ in range(answers):
            self._actor(self._seen(observed))
            self._actor.rest(self._execute)
        self._actor.trace.clear()

    def _seen(self, observed: Mapping[str, Any]) -> Mapping[str, Any]:
        """The observation under the policy's names of cameras."""
        if self._sources is None:
            return observed
        by_camera = [part for part in ("images", "masks") if part in observed]
        renamed = {part: {name: observed[part][own] for name, own in self._sources.items()} for part in by_camera}
        return {**observed, **renamed}


def asked_ms(episodes: Iterable[Episode], trace: Trace) -> list[float]:
    """The latencies of the steps whose action was asked for.

    Raises ValueError where the trace has other steps than the episodes.
    """
    every = chain.from_iterable(episode.act_ms for episode in episodes)
    return [ms for ms, was_asked in zip(every, trace.asked, strict=True) if was_asked]
