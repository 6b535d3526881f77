"""Frames are made ready for the towers while the device is at others' frames.

Knows a function from an observation to what the towers take; no line and no device.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from functools import partial

from stillframe.domain import Observation
from stillframe.models.base import Prepared


class Preparation:
    """One frame's. Called for its result once, by whoever needs it."""

    def __init__(self, prepare: Callable[[Observation], Prepared], observation: Observation):
        self._prepare: Callable[[], Prepared] = partial(prepare, observation)
        self._future: Future[Prepared] | None = None

    def begin(self, pool: ThreadPoolExecutor) -> None:
        """Have a thread of the pool come to it."""
        with suppress(RuntimeError):  # the pool is closed: then it is done when it is needed
            self._future = pool.submit(self._prepare)

    def __call__(self) -> Prepared:
        """Ready: made meanwhile, or made right here if nobody has come to it. Raises Unprocessable."""
        future = self._future
        return self._prepare() if future is None or future.cancel() else future.result()

    def over(self) -> None:
        """Nobody waits for it any more: let go of the pictures."""
        if self._future is not None:
            self._future.cancel()
        self._future, self._prepare = None, _over


def _over() -> Prepared:
    raise RuntimeError("a frame is prepared that nobody waits for")
