"""Disk trouble: counts lost frames, logs when it begins and ends, and backs off between tries.

Knows a clock; no disk and no frame.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from logging import Logger

FREE_TRIES = 8  # consecutive failures before backing off
FIRST_REST_S, LONGEST_REST_S = 0.25, 5.0  # doubles with each further failure


class Trouble:
    """Disk trouble of one recording. Any thread."""

    def __init__(self, log: Logger, clock: Callable[[], float]):
        self.lost = 0
        self.reason: str | None = None  # why frames are being lost; None: none are
        self._log = log
        self._clock = clock
        self._since = 0  # lost before this trouble began
        self._failures = 0  # consecutive
        self._again_s = -float("inf")  # when to try the disk again
        self._lock = threading.Lock()

    @property
    def rests(self) -> bool:
        """Whether to back off from the disk now."""
        return self._clock() < self._again_s

    def lose(self, reason: str | None = None, *, failed: bool = False) -> None:
        """Count a lost frame; log the reason of the first. `failed`: writing was tried."""
        with self._lock:
            begins = self.reason is None
            self.lost += 1
            self.reason = reason or self.reason or "the disk is left alone for a while"
            if begins:
                self._since = self.lost - 1
            if failed:
                self._failures += 1
                self._rest()
        if begins:
            self._log.warning("%s (%d so far)", self.reason, self.lost)

    def over(self, *, all_written: bool) -> None:
        """A frame was written: the trouble is over, unless others wait still, for which the disk may be too slow."""
        with self._lock:
            self._failures, self._again_s = 0, -float("inf")
            ends = self.reason is not None and all_written
            missing = self.lost - self._since
            if ends:
                self.reason = None
        if ends:
            self._log.info("frames are recorded again; %d were lost meanwhile", missing)

    def _rest(self) -> None:
        beyond = self._failures - FREE_TRIES
        if beyond >= 0:
            self._again_s = self._clock() + min(LONGEST_REST_S, FIRST_REST_S * 2 ** min(beyond, 10))
