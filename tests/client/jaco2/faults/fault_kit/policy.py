"""A policy behind a whole daemon that moves the tool to and fro, and can be made to fail. Knows no bridge."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stillframe.domain import Observation, SessionRef, Step
from stillframe.testing import EchoPolicy, policy_info

STEP_M, TO_AND_FRO = 0.004, 40  # of an action; actions in one direction
STATS = {"q01": [-0.01] * 6 + [0.0], "q99": [0.01] * 6 + [1.0], "mask": [True] * 6 + [False]}


@dataclass
class MovingPolicy(EchoPolicy):
    """Answers at once with the next action of a movement."""

    info: Any = policy_info(name="mover", norm_stats={"robot": STATS})  # noqa: RUF009 -- frozen
    delay_s: float = 0.0
    fails: Callable[[], Exception] | None = None  # raised in place of an answer, anew each time

    def step(self, observation: Observation, session: SessionRef | None = None) -> Step:
        """Answer after the delay, or fail."""
        time.sleep(self.delay_s)
        if self.fails is not None:
            raise self.fails()
        return super().step(observation, session)

    def echo(self, observation: Observation) -> NDArray[np.float64]:
        """The next action, [1, 7]."""
        del observation
        sign = -1 if (len(self.seen) // TO_AND_FRO) % 2 else 1
        return np.array([[sign * STEP_M, 0, 0, 0, 0, 0, 1.0]])
