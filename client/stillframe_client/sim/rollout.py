"""Plays episodes with any source of actions, and keeps the score.

Knows the environment; not whether the policy is a function, an expert or a daemon on another machine.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

from stillframe_client.sim.state import Vector
from stillframe_client.sim.table_env import Observed, TableEnv

Act = Callable[[Observed], Vector]  # observation -> action [7]
Watch = Callable[[Observed, Mapping[str, Any]], None]  # called after each step with what came of it


@runtime_checkable
class Actor(Protocol):
    """An Act with state: it is reset at an episode's start, and may work after each action."""

    def __call__(self, observed: Observed) -> Vector:
        """Return the action [7] for what is seen now."""
        ...

    def reset(self) -> object:
        """Begin an episode; the first picture comes next."""
        ...

    def rest(self) -> object:
        """The arm is moving: do what has no place in the answer's time."""
        ...


@dataclass(frozen=True)
class Episode:
    """Result of one episode."""

    seed: int
    instruction: str
    success: bool
    wrong_object: bool
    steps: int
    act_ms: tuple[float, ...]  # per step: from observation to action, whatever lies between
    wall_s: float
    first_right: bool = False  # whether the arm, once free, made for the right cube at first; where there are several


def play(
    env: TableEnv,
    act: Act,
    *,
    seed: int,
    options: Mapping[str, str] | None = None,
    watch: Watch | None = None,
    clock: Callable[[], float] = time.perf_counter,
) -> Episode:
    """Reset with `seed` and act until the episode ends. An Actor is reset first and rests after each action.

    Only acting is timed. Errors of `act` and `env` pass through.
    """
    began = clock()
    observed, info = env.reset(seed=seed, options=options)
    actor = act if isinstance(act, Actor) else None
    if actor is not None:
        actor.reset()
    act_ms, over = [], False
    while not over:
        asked = clock()
        action = act(observed)
        act_ms.append((clock() - asked) * 1e3)
        if actor is not None:
            actor.rest()
        observed, _, terminated, truncated, info = env.step(action)
        over = terminated or truncated
        if watch is not None:
            watch(observed, info)
    return Episode(
        seed=seed,
        instruction=observed["instruction"],
        success=info["success"],
        wrong_object=info["wrong_object"],
        steps=info["steps"],
        act_ms=tuple(act_ms),
        wall_s=clock() - began,
        first_right="colour" in info and info["first_direction"] == info["colour"],
    )
