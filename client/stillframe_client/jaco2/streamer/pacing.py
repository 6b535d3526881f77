"""The 10 ms beat: on time where the machine allows, late where not, and never in a burst.

Knows no arm. A late tick shifts those after it: two are never nearer than 9.8 ms, so the rate is never over the arm's.
A command leaves when its tick has been computed: some tenths of a millisecond after the beat.
"""

from __future__ import annotations

import math
import time
from typing import Callable, Optional, Protocol

from stillframe_client.jaco2.ceilings import TICK_S

SLACK_S = 0.0002  # lateness that is made up for by the next tick


class Clock(Protocol):
    """Time, and waiting for it."""

    def now_s(self) -> float:
        """Seconds of a clock that never steps."""
        ...

    def sleep_until(self, time_s: float) -> None:
        """Return at that time, or later."""
        ...


class MonotonicClock:
    """The machine's."""

    def __init__(self, sleep: Callable[[float], None] = time.sleep):
        self._sleep = sleep

    def now_s(self) -> float:
        """time.monotonic: the same for all processes of a machine, and no one sets it."""
        return time.monotonic()

    def sleep_until(self, time_s: float) -> None:
        """Sleep for what is left."""
        left_s = time_s - time.monotonic()
        if left_s > 0:
            self._sleep(left_s)


class Beat:
    """Ticks of one clock."""

    def __init__(self, clock: Clock):
        self._clock = clock
        self._due_s: Optional[float] = None
        self.at_s = -math.inf  # of the newest tick

    def wait(self) -> float:
        """Wait for the next tick; return how late it came, in seconds."""
        now_s = self._clock.now_s()
        if self._due_s is None:
            self._due_s = now_s
        else:
            self._clock.sleep_until(self._due_s)
            now_s = self._clock.now_s()
        self.at_s, late_s = now_s, max(now_s - self._due_s, 0.0)
        self._due_s = max(self._due_s + TICK_S, now_s + TICK_S - SLACK_S)
        return late_s
