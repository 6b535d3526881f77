"""PendingAnswers: whatever ends the engine's thread, no answer stays open, and the daemon is told why.

Knows futures; not what was computed, and no process.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future, InvalidStateError
from contextlib import suppress
from functools import partial

from stillframe.domain import Step
from stillframe.errors import NotReady

RETRY_AFTER_S = 10.0  # until a supervisor has started another one
OnEnded = Callable[[BaseException], None]


class PendingAnswers:
    """Every answer that is not given yet, and whether the engine still can. Any thread."""

    def __init__(self, on_ended: OnEnded):
        """`on_ended` is called with what ended the engine, in its last moments."""
        self.cause: BaseException | None = None  # what ended the engine; None: it runs
        self._open: set[Future[Step]] = set()
        self._on_ended = on_ended
        self._lock = threading.RLock()  # an answer's callbacks may send the next frame

    def add(self, answer: Future[Step]) -> None:
        """Fail it should the engine end before it is given; at once where it has ended."""
        with self._lock:
            self._open.add(answer)
        answer.add_done_callback(self._open.discard)
        if self.cause is not None:
            _fail(answer)

    def fail_all(self, cause: BaseException) -> None:
        """The engine has ended: report it, so that no frame is accepted, and fail everything that waits."""
        with self._lock:
            self.cause, unanswered = cause, [*self._open]
        for act in (partial(self._on_ended, cause), *(partial(_fail, answer) for answer in unanswered)):
            with suppress(BaseException):  # whatever one of them raises, the others follow
                act()


def engine_ended() -> NotReady:
    """The answer to frames that wait, or come."""
    detail = "The engine has ended and the daemon stops; ask again once it has been restarted."
    return NotReady("engine-ended", detail, retry_after_s=RETRY_AFTER_S)


def _fail(answer: Future[Step]) -> None:
    with suppress(InvalidStateError, RuntimeError):  # it was answered meanwhile
        if not answer.done() and (answer.running() or answer.set_running_or_notify_cancel()):
            answer.set_exception(engine_ended())
