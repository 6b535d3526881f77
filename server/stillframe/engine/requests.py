"""FrameRequest: one frame from the queue to its answer, and its preparation while the device computes others.

Knows a function from an observation to what the model takes; no queue and no device.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from math import inf

from stillframe.domain import Observation, SessionRef, Step
from stillframe.models.base import PolicyModel, Prepared


class PrepareTask:
    """One frame's preparation: on the pool's thread, or where the result is asked for first."""

    def __init__(self, prepare: Callable[[Observation], Prepared], observation: Observation):
        self._prepare: Callable[[], Prepared] = partial(prepare, observation)
        self._future: Future[Prepared] | None = None

    def begin(self, pool: ThreadPoolExecutor) -> None:
        """Queue it for the pool."""
        with suppress(RuntimeError):  # the pool is closed: then it is prepared when it is needed
            self._future = pool.submit(self._prepare)

    def __call__(self) -> Prepared:
        """The result; prepared here if the pool has not begun. Raises Unprocessable."""
        future = self._future
        return self._prepare() if future is None or future.cancel() else future.result()

    def cancel(self) -> None:
        """The result is no longer needed: free the pictures."""
        if self._future is not None:
            self._future.cancel()
        self._future, self._prepare = None, _cancelled


def _cancelled() -> Prepared:
    raise RuntimeError("the preparation of this frame was cancelled")


@dataclass(frozen=True, eq=False)
class FrameRequest:
    """One frame that is to be computed. Times are the engine's clock's, in seconds."""

    observation: Observation
    session: SessionRef | None = None  # None: stateless
    task: PrepareTask | None = None  # None: it is prepared when its batch is computed
    entered_s: float | None = None  # into the queue; None: it did not wait
    expires_s: float = inf  # when it is too old to be computed
    patient_until_s: float = -inf  # others may go before it until then, for its robot has actions left
    answer: Future[Step] = field(default_factory=Future)

    def prepared(self, model: PolicyModel) -> Prepared:
        """Ready for the vision towers. Raises Unprocessable."""
        return model.prepare(self.observation) if self.task is None else self.task()

    def queued_ms(self, now_s: float) -> float:
        """How long it has waited."""
        return 0.0 if self.entered_s is None else (now_s - self.entered_s) * 1e3


@dataclass(frozen=True)
class EndSession:
    """The control item of a session that has ended: free what it holds."""

    session_id: str


@dataclass(frozen=True)
class Stateless:
    """The queue key of a caller's frames without a session: they take turns as one session does."""

    share: str


Key = str | Stateless  # of the queue: a session's id, or a caller's stateless frames
