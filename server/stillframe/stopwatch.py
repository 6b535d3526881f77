"""Times the stages of one frame, lap after lap.

Knows a clock and how to wait until what was asked for is done; not what the stages are.
"""

from __future__ import annotations

from collections.abc import Callable
from time import perf_counter

Clock = Callable[[], float]  # seconds, monotonic


def no_wait() -> None:
    """What to wait for where work is done as soon as it is asked for."""


class Stopwatch:
    """Runs from when it is made. Each lap first calls `wait`, so that a stage pays for all that it asked for."""

    def __init__(self, clock: Clock = perf_counter, wait: Callable[[], None] = no_wait):
        self.laps_ms: dict[str, float] = {}  # stage -> its time, in the order they ran
        self._clock = clock
        self._wait = wait
        self.started_s = self._lap_s = clock()

    def lap(self, stage: str) -> None:
        """End a stage."""
        self._wait()
        now_s = self._clock()
        self.laps_ms[stage] = (now_s - self._lap_s) * 1e3
        self._lap_s = now_s

    @property
    def total_ms(self) -> float:
        """Since the start."""
        return (self._clock() - self.started_s) * 1e3
