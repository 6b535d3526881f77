"""Trouble with a disk: frames that are lost are counted, it is said when that begins and when it ends, and tried again.

Knows a clock; no disk and no frame.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from logging import Logger

FREE_TRIES = 8  # frames that fail one after another before the disk is left alone for a while
FIRST_REST_S, LONGEST_REST_S = 0.25, 5.0  # it doubles with each further failure


class Trouble:
    """A recording's. Any thread."""

    def __init__(self, log: Logger, clock: Callable[[], float]):
        self.lost = 0
        self.reason: str | None = None  # why frames are being lost; None: they are not
        self._log = log
        self._clock = clock
        self._since = 0  # lost before this trouble began
        self._failures = 0  # one after another
        self._again_s = -float("inf")  # when the disk is to be tried again
        self._lock = threading.Lock()

    @property
    def rests(self) -> bool:
        """Whether the disk is left alone: it failed again and again."""
        return self._clock() < self._again_s

    def lose(self, reason: str | None = None, *, failed: bool = False) -> None:
        """Count a frame; say why where this is the first one. `failed`: the disk was tried."""
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
        """A frame was kept. Unless others wait still, which a slow disk might not see in time, all is well again."""
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
