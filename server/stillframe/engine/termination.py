"""The engine's end: whatever ends its thread, nothing waits for it in vain, and whoever runs it is told.

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
Tell = Callable[[BaseException], None]


class Ending:
    """What is not answered yet, and whether it ever will be. Any thread."""

    def __init__(self, tell: Tell):
        """`tell` is called with what ended the engine, in its last moments."""
        self.cause: BaseException | None = None  # what ended the engine; None: it lives
        self._open: set[Future[Step]] = set()
        self._tell = tell
        self._lock = threading.RLock()  # an answer's callbacks may send the next frame

    def watch(self, answer: Future[Step]) -> None:
        """Settle it should the engine end before; at once where it has."""
        with self._lock:
            self._open.add(answer)
        answer.add_done_callback(self._open.discard)
        if self.cause is not None:
            _settle(answer)

    def come(self, cause: BaseException) -> None:
        """It is over: tell, so that no frame is taken, and answer everything that waits."""
        with self._lock:
            self.cause, unanswered = cause, [*self._open]
        for act in (partial(self._tell, cause), *(partial(_settle, answer) for answer in unanswered)):
            with suppress(BaseException):  # whatever one of them raises, the others are told
                act()


def over() -> NotReady:
    """What is said to frames that wait, or come."""
    detail = "The engine has ended and the daemon stops; ask again once it has been started anew."
    return NotReady("engine-ended", detail, retry_after_s=RETRY_AFTER_S)


def _settle(answer: Future[Step]) -> None:
    with suppress(InvalidStateError, RuntimeError):  # it was answered meanwhile
        if not answer.done() and (answer.running() or answer.set_running_or_notify_cancel()):
            answer.set_exception(over())
