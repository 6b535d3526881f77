"""BatchPolicy: which waiting frames are computed side by side, where that is measured to pay and delays none too long.

Knows how long batches of each size took; no frame, and nothing of what is computed.
"""

from __future__ import annotations

from stillframe.engine.settings import BatchingSettings

WEIGHT = 0.2  # of the newest time among those of its size: about the last five count
FORGIVEN = 0.02  # of a size's measured cost beyond turns, each time it is not chosen: times change
SHARED_HOLD = 0.5  # of a frame's time alone, that one caller's batch may take longer where others use the device
ALONE_EVERY = 64  # batches, after which one frame goes alone: what that takes has to be known as it is now


class BatchPolicy:
    """Measures what frames cost together and alone, and says which go together. One thread."""

    def __init__(self, settings: BatchingSettings):
        self._most = settings.most
        self._hold_s = settings.hold_ms / 1e3
        self._times_s: dict[int, float] = {}  # batch size -> how long one takes
        self._formed = 0

    def record(self, size: int, took_s: float) -> None:
        """Record how long a batch of `size` frames took."""
        before_s = self._times_s.get(size, took_s)
        self._times_s[size] = before_s + WEIGHT * (took_s - before_s)
        self._formed += size > 1

    def time_s(self, size: int) -> float:
        """How long a batch of `size` frames takes, as far as is known: at worst as long as the frames one by one."""
        if size in self._times_s:
            return self._times_s[size]
        known = max((other for other in self._times_s if other < size), default=0)
        return self._times_s[known] / known * size if known else 0.0

    def admits(self, size: int, spare_s: float, *, shared: bool = False) -> bool:
        """Whether one more frame joins a batch of `size`, which may be left waiting for another `spare_s`.

        `shared`: other callers use the device as well; a batch then takes little longer than one frame alone.

        It does where none is delayed by the others for longer than it may be, and all are done sooner than in turn, or
        where it would be too old once these are done.
        """
        if size >= self._most:
            return False
        together_s, alone_s = self.time_s(size + 1), self.time_s(1)
        if together_s - alone_s > (min(self._hold_s, SHARED_HOLD * alone_s) if shared else self._hold_s):
            return self._declined(size + 1)
        if spare_s < self.time_s(size):
            return True
        if together_s > self.time_s(size) + alone_s or (size == 1 and self._formed % ALONE_EVERY == ALONE_EVERY - 1):
            return self._declined(size + 1)
        return True

    def _declined(self, size: int) -> bool:
        """No; and lower that size's measured cost a little, so that it is tried again."""
        self._formed += 1
        if size in self._times_s:
            turns_s = self.time_s(size - 1) + self.time_s(1)
            self._times_s[size] -= FORGIVEN * max(0.0, self._times_s[size] - turns_s)
        return False
