"""One robot's session: identity, counters, frames in flight.

Knows no other session; what it holds on the device, the engine knows under the same key.
"""

from __future__ import annotations

import hmac
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Protocol

from stillframe.domain import KeyframeReason, ReuseMode, SessionRef
from stillframe.errors import Conflict
from stillframe.sessions.pending import FramePosition, PendingFrame, ReplyCache
from stillframe.sessions.states import GONE, State
from stillframe.stopwatch import Clock

ANONYMOUS = "anonymous"  # the owner of all sessions where tokens are off
LAST_SEQ = 2**64 - 1  # msgpack's largest integer


class ServiceMode(StrEnum):
    """What happens to a waiting frame when the next one arrives."""

    LOCKSTEP = "lockstep"  # it keeps its place in the queue
    REALTIME = "realtime"  # the newest wins; the older one is answered with Superseded


class Connection(Protocol):
    """A stream that holds sessions for as long as it is open."""

    def lost(self, session_id: str) -> None:
        """Another connection took the session over by its secret. Called on that one's thread."""
        ...


class SessionObserver(Protocol):
    """Told of what happens to sessions. Called on any thread under the registry's lock: must not call the registry."""

    def ended(self, state: State) -> None:
        """A session was closed, expired or evicted."""
        ...

    def refused(self) -> None:
        """A session was refused at capacity."""
        ...

    def superseded(self) -> None:
        """A waiting frame was replaced by a newer one."""
        ...

    def replayed(self) -> None:
        """A repeated frame was answered from the cache."""
        ...


def session_key(owner: str, session_id: str) -> str:
    """The key that the policy knows, unique over all owners: 'arm'; with a token 'front', 'front/arm'."""
    return session_id if owner == ANONYMOUS else f"{owner}/{session_id}"


@dataclass(frozen=True)
class SessionInfo:
    """What the API shows of a session: no secret."""

    id: str
    owner: str  # the name of the token that opened it; `anonymous` without tokens
    state: State
    service: ServiceMode
    mode: ReuseMode | None
    epoch: int
    seq: int | None  # of the last accepted frame of this epoch
    in_flight: int
    connected: bool
    warm: bool
    age_s: float
    idle_s: float  # since its last use; 0.0 while frames are in flight


@dataclass(frozen=True)
class EndedSession:
    """What is known of a session that ended not long ago."""

    id: str
    owner: str
    state: State  # closed, expired or evicted
    ended_s: float  # since then


@dataclass(eq=False)
class Session:
    """A session. The registry's lock guards it; others may read it, and set `instruction` and `unread_state_at`."""

    id: str
    owner: str  # the name of the token that opened it; ids are unique per owner
    share: str  # the quota that it counts against: capacity and device time
    secret: str = field(repr=False)  # lets a connection resume the session
    serial: int  # tells it from an earlier one of the same id
    service: ServiceMode
    mode: ReuseMode | None  # of frames that name none
    first_reason: KeyframeReason  # why its first frame is a keyframe
    replies: ReplyCache = field(repr=False)
    clock: Clock = field(repr=False)
    implicit: bool = False  # opened by naming it, and unused: a first reset ends no episode
    opened_s: float = 0.0
    used_s: float = 0.0  # when it was last used
    left_s: float = 0.0  # when its connection dropped, in state AWAY
    state: State = State.IDLE
    epoch: int = 0
    last_seq: int = -1  # of this epoch
    in_flight: list[PendingFrame] = field(default_factory=list, repr=False)  # of whatever epoch
    connection: Connection | None = field(default=None, repr=False)
    instruction: str | None = field(default=None, repr=False)  # the last one sent; survives a reset
    unread_state_at: tuple[int, int] | None = field(default=None, repr=False)  # epoch, seq of the frame told so
    warm: bool = False  # its last answered frame left keys and values on the device

    @property
    def key(self) -> str:
        """As `session_key` makes it."""
        return session_key(self.owner, self.id)

    @property
    def live(self) -> bool:
        """Whether it has not ended."""
        return self.state not in GONE

    def check_secret(self, secret: str) -> bool:
        """Whether this is its secret, compared in constant time."""
        said, kept = (text.encode("utf-8", "surrogatepass") for text in (secret, self.secret))
        return hmac.compare_digest(said, kept)

    def next_seq(self, position: FramePosition) -> int:
        """The seq of a new frame at this position. Raises Conflict stale-seq."""
        seq = self.last_seq + 1 if position.seq is None else position.seq
        if self.last_seq < seq <= LAST_SEQ:
            return seq
        if seq > LAST_SEQ or self.last_seq == LAST_SEQ:
            detail = f"A frame's number goes up to {LAST_SEQ}, and epoch {self.epoch} has had frame {self.last_seq}"
            raise Conflict("stale-seq", f"{detail}; reset the session: the next epoch counts from 0 again.")
        detail = f"Frame {seq} is not after frame {self.last_seq}, the last of epoch {self.epoch}, nor a repeat of one"
        raise Conflict("stale-seq", f"{detail} whose answer is kept; send a higher seq, or none to have them counted.")

    def check_epoch(self, epoch: int | None) -> None:
        """Raise Conflict stale-epoch for any epoch but the current one; None: not named."""
        if epoch not in (None, self.epoch):
            detail = f"Epoch {epoch} was named, and the session is in epoch {self.epoch}"
            raise Conflict("stale-epoch", f"{detail}; a reset begins the next, and its reply names it.")

    def check_connection(self, connection: object | None) -> None:
        """Raise Conflict session-in-use where another connection holds the session; None: a plain HTTP request."""
        if self.connection is not None and self.connection is not connection:
            detail = (
                "A connection holds this session; send its frames there, or open it with its secret to take it over."
            )
            raise Conflict("session-in-use", detail)

    def begin_epoch(self) -> None:
        """Begin the next epoch: seq counts from 0, and no cached reply carries over."""
        self.epoch += 1
        self.last_seq = -1
        self.replies.clear()

    def ref(self, pending: PendingFrame, mode: ReuseMode | None) -> SessionRef:
        """The reference that a frame carries to the policy."""
        return SessionRef(
            self.key, pending.epoch, pending.seq, mode or self.mode, self.serial, self.first_reason, self.share
        )

    def info(self) -> SessionInfo:
        """A snapshot of it."""
        now_s = self.clock()
        return SessionInfo(
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
