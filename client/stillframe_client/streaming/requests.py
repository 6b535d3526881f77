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
    """What may be asked."""

    OPEN = "open"  # that the session be open
    FRAME = "frame"
    RESET = "reset"
    CLOSE = "close"


BARRIERS = (RequestKind.RESET, RequestKind.CLOSE)  # what is asked behind one of these waits for its answer


def _nobody(_: StreamRequest) -> None:
    """Nobody wants to be told."""


@dataclass(eq=False)
class StreamRequest:
    """A question and, once it is settled, its answer or the error instead of it."""

    kind: RequestKind
    asked_s: float  # by the conversation's clock
    fields: Mapping[str, Any] = field(default_factory=dict)  # of a frame
    max_age_s: Optional[float] = None  # of a frame: when older it is not sent (again)
    on_settled: Callable[[StreamRequest], None] = _nobody

    position: Optional[FramePosition] = None  # of a frame that was sent: it keeps it for as long as its session lives
    data: bytes = b""  # the message, byte for byte: what is sent again is the same
    sent: bool = False  # on the connection that there is now
    abandoned: bool = False  # nobody waits for the answer, but the conversation needs it to go on
    was_reopened: bool = False  # its session, or its episode, was gone once already

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
        """Its session is another now: it is given a place there, and sent anew."""
        self.position, self.data, self.sent = None, b"", False

    def is_expired(self, now_s: float) -> bool:
        """Whether it is a frame past its max_age_ms."""
        return self.max_age_s is not None and now_s - self.asked_s > self.max_age_s

    def expiry_text(self, now_s: float) -> str:
        """What there is to say of that."""
        age_ms, most_ms = 1000 * (now_s - self.asked_s), 1000 * (self.max_age_s or 0.0)
        return f"The frame was {age_ms:.0f} ms old before it could be sent; it may be {most_ms:.0f} ms."


class PendingRequests:
    """A line of questions. What leaves it is settled, or nobody's any more."""

    def __init__(self) -> None:
        self._requests: List[StreamRequest] = []
        self._cancelled: Deque[FramePosition] = deque(maxlen=_REMEMBERED)

    def __iter__(self) -> Iterator[StreamRequest]:
        return iter(list(self._requests))

    def add(self, request: StreamRequest) -> None:
        """Put it at the end."""
        self._requests.append(request)

    @property
    def has_waiters(self) -> bool:
        """Whether somebody waits for something."""
        return any(not request.abandoned for request in self._requests)

    @property
    def sent(self) -> List[StreamRequest]:
        """What the daemon owes an answer to, on the connection that there is now."""
        return [request for request in self._requests if request.sent]

    @property
    def barrier(self) -> Optional[StreamRequest]:
        """The reset or close that the daemon has not answered."""
        return next((request for request in self.sent if request.kind in BARRIERS), None)

    def find(self, position: FramePosition) -> Optional[StreamRequest]:
        """The frame that was sent with this place."""
        return next((request for request in self.sent if request.position == position), None)

    def was_cancelled(self, position: FramePosition) -> bool:
        """Whether a frame with this place was sent and given up; asked once, as it is answered once."""
        known = position in self._cancelled
        if known:
            self._cancelled.remove(position)
        return known

    def settle(self, request: StreamRequest, answer: Any) -> None:
        """Answer it."""
        self._requests.remove(request)
        request.settle(answer)

    def fail(self, request: StreamRequest, error: PolicyError) -> None:
        """End it without an action: so the daemon says, or it is not to be sent."""
        self._requests.remove(request)
        request.fail(error)

    def fail_all(self, error: PolicyError) -> None:
        """End everything. The connection has to go with it: what the daemon makes of it is not known any more."""
        line, self._requests = self._requests, []
        for request in line:
            request.fail(error)

    def cancel(self, request: StreamRequest) -> None:
        """Nobody waits for it any more. A reset under way has to be answered all the same: frames wait behind it."""
        if request not in self._requests:
            return
        if request.kind is RequestKind.RESET and request.sent:
            request.abandoned = True
            return
        self._requests.remove(request)
        if request.sent and request.position is not None:
            self._cancelled.append(request.position)

    def mark_unsent(self) -> None:
        """The connection is gone: what it carried has to be sent again, as it was."""
        for request in self._requests:
            request.sent = False

    def session_reopened(self, before: int, after: Optional[int]) -> None:
        """The session is open again: in epoch `after`, after `before`; None: it is a new one.

        What belongs to an ended episode ends. What has a place in this one keeps it, else it is given a new one. Where
        a reset waits and the epoch has changed, the reset was done, and what was asked before it has ended.
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
