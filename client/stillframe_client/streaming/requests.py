"""Requests of a stream: one from submission to settlement, and those that are pending, in order.

Knows no message and no connection: the reader of messages says which frame they are about.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, Callable, Deque, Iterator, List, Mapping, Optional, Tuple

from stillframe_client.errors import PolicyError, Problem, refusal

_REMEMBERED = 64  # cancelled frames whose late answers are recognised
FramePosition = Tuple[int, int]  # epoch, seq


class RequestKind(Enum):
    """The kinds of request."""

    OPEN = "open"  # that the session be open
    FRAME = "frame"
    RESET = "reset"
    CLOSE = "close"


BARRIERS = (RequestKind.RESET, RequestKind.CLOSE)  # later requests wait for the answer of one of these


def _ignore(_: StreamRequest) -> None:
    """The default of on_settled."""


@dataclass(eq=False)
class StreamRequest:
    """A request and, once it is settled, its answer or its error."""

    kind: RequestKind
    asked_s: float  # when, by the protocol's clock
    fields: Mapping[str, Any] = field(default_factory=dict)  # of a frame
    max_age_s: Optional[float] = None  # of a frame: when older it is not sent or resent
    on_settled: Callable[[StreamRequest], None] = _ignore

    position: Optional[FramePosition] = None  # of a sent frame: kept for as long as its session lives
    data: bytes = b""  # the encoded message: a resend is the same to the byte
    sent: bool = False  # on the current connection
    abandoned: bool = False  # without a waiter, but later requests wait for its answer
    was_reopened: bool = False  # its session or episode was gone once, and was opened again

    answer: Any = None  # ActionReply of a frame, epoch of a reset
    error: Optional[PolicyError] = None
    settled: bool = False

    def settle(self, answer: Any) -> None:
        """Answer it, once."""
        if not self.settled:
            self.answer, self.settled = answer, True
            self.on_settled(self)

    def fail(self, error: PolicyError) -> None:
        """End it without an answer, once."""
        if not self.settled:
            self.error, self.settled = error, True
            self.on_settled(self)

    def drop_position(self) -> None:
        """The session is a new one: assign a position there, and send it again."""
        self.position, self.data, self.sent = None, b"", False

    def is_expired(self, now_s: float) -> bool:
        """Whether it is a frame past its max_age_ms."""
        return self.max_age_s is not None and now_s - self.asked_s > self.max_age_s

    def expiry_text(self, now_s: float) -> str:
        """The error text for that."""
        age_ms, most_ms = 1000 * (now_s - self.asked_s), 1000 * (self.max_age_s or 0.0)
        return f"The frame was {age_ms:.0f} ms old before it could be sent; it may be {most_ms:.0f} ms."


class PendingRequests:
    """Requests not yet settled, in order of submission."""

    def __init__(self) -> None:
        self._requests: List[StreamRequest] = []
        self._cancelled: Deque[FramePosition] = deque(maxlen=_REMEMBERED)

    def __iter__(self) -> Iterator[StreamRequest]:
        return iter(list(self._requests))

    def add(self, request: StreamRequest) -> None:
        """Append a request."""
        self._requests.append(request)

    @property
    def has_waiters(self) -> bool:
        """Whether a caller waits for any of them."""
        return any(not request.abandoned for request in self._requests)

    @property
    def sent(self) -> List[StreamRequest]:
        """Requests that were sent on the current connection."""
        return [request for request in self._requests if request.sent]

    @property
    def barrier(self) -> Optional[StreamRequest]:
        """The reset or close that the daemon has not answered."""
        return next((request for request in self.sent if request.kind in BARRIERS), None)

    def find(self, position: FramePosition) -> Optional[StreamRequest]:
        """The frame that was sent at this position."""
        return next((request for request in self.sent if request.position == position), None)

    def was_cancelled(self, position: FramePosition) -> bool:
        """Whether a frame at this position was sent and cancelled; true once, as it is answered once."""
        known = position in self._cancelled
        if known:
            self._cancelled.remove(position)
        return known

    def settle(self, request: StreamRequest, answer: Any) -> None:
        """Settle it with its answer."""
        self._requests.remove(request)
        request.settle(answer)

    def fail(self, request: StreamRequest, error: PolicyError) -> None:
        """Settle it with an error."""
        self._requests.remove(request)
        request.fail(error)

    def fail_all(self, error: PolicyError) -> None:
        """Fail all of them. The connection has to be closed: the daemon may still answer."""
        line, self._requests = self._requests, []
        for request in line:
            request.fail(error)

    def cancel(self, request: StreamRequest) -> None:
        """Drop a request without a waiter. A reset that was sent stays: frames wait behind it."""
        if request not in self._requests:
            return
        if request.kind is RequestKind.RESET and request.sent:
            request.abandoned = True
            return
        self._requests.remove(request)
        if request.sent and request.position is not None:
            self._cancelled.append(request.position)

    def mark_unsent(self) -> None:
        """The connection is gone: everything has to be sent again."""
        for request in self._requests:
            request.sent = False

    def session_reopened(self, before: int, after: Optional[int]) -> None:
        """The session is open again: in epoch `after`, after `before`; None: it is a new session.

        Frames of an ended episode fail. Frames with a position in this one keep it, others get a new one. If a reset is
        pending and the epoch has changed, the reset was done, and earlier frames fail.
        """
        anew = after != before
        was_reset = anew and after is not None and any(request.kind is RequestKind.RESET for request in self._requests)
        for request in self:
            if request.position is not None and (was_reset or request.position[0] != before):
                detail = "The episode of this frame ended before its answer came."
                self.fail(request, refusal(Problem(409, "superseded", detail)))
            elif anew:
                request.drop_position()
        if anew:
            self._cancelled.clear()
