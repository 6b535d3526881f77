"""One robot's session, as the floor before the device knows it.

Knows its own counters, not its neighbours; what a session has on the device, the engine knows under the same id.
"""

from __future__ import annotations

import hmac
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Protocol

from stillframe.domain import KeyframeReason, ReuseMode, SessionRef
from stillframe.errors import Conflict
from stillframe.sessions.pending import Exchange, Place, Replies
from stillframe.sessions.states import GONE, State
from stillframe.stopwatch import Clock

ANONYMOUS = "anonymous"  # the owner of all sessions where there are no tokens
LAST_SEQ = 2**64 - 1  # what msgpack can carry


class Service(StrEnum):
    """What becomes of a frame that waits when the next one comes."""

    LOCKSTEP = "lockstep"  # it keeps its turn
    REALTIME = "realtime"  # the newest wins; the other is answered with Superseded


class Connection(Protocol):
    """What holds a session for as long as it lives: a stream."""

    def lost(self, session_id: str) -> None:
        """Somebody with the session's secret took it over. On the taker's thread."""
        ...


@dataclass(frozen=True)
class SessionCard:
    """What its owner and an admin may be told of a session: no secret."""

    id: str
    owner: str  # whose token opened it; `anonymous` where there are none
    state: State
    service: Service
    mode: ReuseMode | None
    epoch: int
    seq: int | None  # of the last frame that was taken in this epoch
    in_flight: int
    connected: bool
    warm: bool
    age_s: float
    idle_s: float  # since its last use; 0.0 while frames are in flight


@dataclass(eq=False)
class Session:
    """A session. The roster's lock guards it; others read, and set `instruction`."""

    id: str
    owner: str  # whose token opened it: ids are unique among one owner's sessions
    share: str  # whose share of places and of the device it takes
    secret: str = field(repr=False)  # who knows it may take the session over
    serial: int  # tells it from an earlier one of the same id
    service: Service
    mode: ReuseMode | None  # of frames that do not say
    opening: KeyframeReason  # why its first frame is computed whole
    replies: Replies = field(repr=False)
    clock: Clock = field(repr=False)
    untouched: bool = False  # neither opened on purpose nor used: there is no episode that a reset could end
    opened_s: float = 0.0
    used_s: float = 0.0  # when it was last used
    left_s: float = 0.0  # when its connection dropped, in state AWAY
    state: State = State.IDLE
    epoch: int = 0
    last_seq: int = -1  # of this epoch
    in_flight: list[Exchange] = field(default_factory=list, repr=False)  # of whatever epoch
    connection: Connection | None = field(default=None, repr=False)
    instruction: str | None = field(default=None, repr=False)  # as last said; outlives a reset
    warm: bool = False  # its last answered frame left keys and values on the device

    @property
    def key(self) -> str:
        """What the policy knows it by, unique among all owners' sessions: 'arm'; with a token 'front', 'front/arm'."""
        return self.id if self.owner == ANONYMOUS else f"{self.owner}/{self.id}"

    @property
    def live(self) -> bool:
        """Whether it is still here."""
        return self.state not in GONE

    def knows(self, secret: str) -> bool:
        """Whether this is its secret; takes as long for every wrong one."""
        said, kept = (text.encode("utf-8", "surrogatepass") for text in (secret, self.secret))
        return hmac.compare_digest(said, kept)

    def next_seq(self, place: Place) -> int:
        """The seq of a new frame at this place. Raises Conflict stale-seq."""
        seq = self.last_seq + 1 if place.seq is None else place.seq
        if self.last_seq < seq <= LAST_SEQ:
            return seq
        if seq > LAST_SEQ or self.last_seq == LAST_SEQ:
            detail = f"A frame's number goes up to {LAST_SEQ}, and epoch {self.epoch} has had frame {self.last_seq}"
            raise Conflict("stale-seq", f"{detail}; reset the session: the next epoch counts from 0 again.")
        detail = f"Frame {seq} is not after frame {self.last_seq}, the last of epoch {self.epoch}, nor a repeat of one"
        raise Conflict("stale-seq", f"{detail} whose answer is kept; send a higher seq, or none to have them counted.")

    def check_epoch(self, epoch: int | None) -> None:
        """Raise Conflict stale-epoch for another episode than this one; None: not said."""
        if epoch not in (None, self.epoch):
            detail = f"Epoch {epoch} was named, and the session is in epoch {self.epoch}"
            raise Conflict("stale-epoch", f"{detail}; a reset begins the next, and its reply names it.")

    def check_connection(self, connection: object | None) -> None:
        """Raise Conflict session-in-use where another connection holds the session; None: asked without one."""
        if self.connection is not None and self.connection is not connection:
            detail = (
                "A connection holds this session; send its frames there, or open it with its secret to take it over."
            )
            raise Conflict("session-in-use", detail)

    def begin_epoch(self) -> None:
        """Count on; what was asked for in the last epoch is no repeat of anything in this one."""
        self.epoch += 1
        self.last_seq = -1
        self.replies.clear()

    def ref(self, exchange: Exchange, mode: ReuseMode | None) -> SessionRef:
        """What the policy is told of a frame."""
        return SessionRef(
            self.key, exchange.epoch, exchange.seq, mode or self.mode, self.serial, self.opening, self.share
        )

    def card(self) -> SessionCard:
        """Describe it as it is now."""
        now_s = self.clock()
        return SessionCard(
            id=self.id,
            owner=self.owner,
            state=self.state,
            service=self.service,
            mode=self.mode,
            epoch=self.epoch,
            seq=self.last_seq if self.last_seq >= 0 else None,
            in_flight=len(self.in_flight),
            connected=self.connection is not None,
            warm=self.warm,
            age_s=now_s - self.opened_s,
            idle_s=0.0 if self.in_flight else now_s - self.used_s,
        )
