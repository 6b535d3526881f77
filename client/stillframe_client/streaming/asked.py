"""One thing asked of the daemon over a stream, until it is answered, refused or given up.

Knows no message and no connection.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum
from typing import Any, Callable, Mapping, Optional, Tuple

from stillframe_client.errors import PolicyError

Place = Tuple[int, int]  # epoch, seq


class Kind(Enum):
    """What may be asked."""

    OPEN = "open"  # that the session be open
    FRAME = "frame"
    RESET = "reset"
    CLOSE = "close"


BARRIERS = (Kind.RESET, Kind.CLOSE)  # what is asked behind one of these waits for its answer


def _nobody(_: Asked) -> None:
    """Nobody wants to be told."""


@dataclass(eq=False)
class Asked:
    """A question and, once it is settled, its answer or the error instead of it."""

    kind: Kind
    asked_s: float  # by the conversation's clock
    fields: Mapping[str, Any] = field(default_factory=dict)  # of a frame
    max_age_s: Optional[float] = None  # of a frame: when older it is not sent (again)
    on_settled: Callable[[Asked], None] = _nobody

    place: Optional[Place] = None  # of a frame that was sent: it keeps it for as long as its session lives
    data: bytes = b""  # the message, byte for byte: what is sent again is the same
    sent: bool = False  # on the connection that there is now
    abandoned: bool = False  # nobody waits for the answer, but the conversation needs it to go on
    reborn: bool = False  # its session, or its episode, was gone once already

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

    def forget_place(self) -> None:
        """Its session is another now: it is given a place there, and sent anew."""
        self.place, self.data, self.sent = None, b"", False

    def is_too_old(self, now_s: float) -> bool:
        """Whether it is a frame past its max_age_ms."""
        return self.max_age_s is not None and now_s - self.asked_s > self.max_age_s

    def too_old(self, now_s: float) -> str:
        """What there is to say of that."""
        age_ms, most_ms = 1000 * (now_s - self.asked_s), 1000 * (self.max_age_s or 0.0)
        return f"The frame was {age_ms:.0f} ms old before it could be sent; it may be {most_ms:.0f} ms."
