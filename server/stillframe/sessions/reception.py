"""Lets sessions in and sees them out: whose ids are whose, who makes room when there is none, what is said of the gone.

Knows no frame beyond taking back those that wait. Its caller holds the roster's lock.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Callable
from itertools import count

from stillframe.domain import KeyframeReason, Policy, ReuseMode
from stillframe.errors import Conflict, NoSuchSession, Overloaded, RequestError
from stillframe.sessions.attendance import Attendance
from stillframe.sessions.replies import Replies
from stillframe.sessions.session import Service, Session
from stillframe.sessions.settings import SessionSettings
from stillframe.sessions.states import Event, State, gone
from stillframe.sessions.watch import Watch
from stillframe.stopwatch import Clock

WITHOUT_POOL = 64  # sessions at once, where nothing else says how many
FULL_WAIT_S = 1.0  # when everybody is busy
_ISSUED = re.compile(r"s-[0-9a-f]{32}")  # ids that we give out; nobody else may choose one like them


class Reception:
    """Who comes and who goes. Reads `policy` at every coming and going: it raises NotReady while none is loaded."""

    def __init__(
        self,
        settings: SessionSettings,
        policy: Callable[[], Policy],
        clock: Clock,
        attendance: Attendance,
        watch: Watch,
    ):
        self._settings = settings
        self._policy = policy
        self._clock = clock
        self._attendance = attendance
        self._watch = watch
        self._serials = count(1)

    @property
    def capacity(self) -> int:
        """How many sessions there can be at once."""
        return self._settings.most or self._policy().usage.slots or WITHOUT_POOL

    def welcome(
        self, session_id: str | None, owner: str, service: Service = Service.LOCKSTEP, mode: ReuseMode | None = None
    ) -> Session:
        """Begin a session under an id that nobody has; None: one of ours. Raises as `Roster.open` does."""
        if session_id is not None and _ISSUED.fullmatch(session_id):
            raise self.missing(session_id, owner)
        self._make_room()
        session = Session(
            id=session_id or f"s-{secrets.token_hex(16)}",
            owner=owner,
            secret=secrets.token_urlsafe(24),
            serial=next(self._serials),
            service=service,
            mode=mode,
            opening=self._opening(session_id, owner),
            replies=Replies(self._settings.replies),
            clock=self._clock,
        )
        self._attendance.arrive(session)
        return session

    def see_out(self, session: Session, event: Event) -> None:
        """End a session; nothing happens to one that has ended. Frames that wait are answered with Gone."""
        was_live = session.live
        self._attendance.happen(session, event)
        if was_live:
            session.connection = None
            for exchange in list(session.in_flight):
                exchange.withdraw(gone(session.state))
            session.replies.clear()
            self._policy().forget(session.id)
            self._watch.ended(session.state)

    def missing(self, session_id: str, owner: str | None) -> RequestError:
        """What is said of an id under which this owner has no session."""
        before = self._attendance.tombstone(session_id)
        if before is not None and owner in (None, before.owner):
            return gone(before.state)
        return NoSuchSession("unknown-session", "No session has this id; open one, and leave the id to the daemon.")

    def taken(self, session_id: str, owner: str) -> RequestError:
        """What is said of an id under which somebody else has a session; of one of ours, not even that."""
        if _ISSUED.fullmatch(session_id):
            return self.missing(session_id, owner)
        return Conflict("session-exists", "This id is taken; choose another.")

    def _opening(self, session_id: str | None, owner: str) -> KeyframeReason:
        """Why a new session's first frame is whole: one that its owner did not close has lost what it had."""
        before = None if session_id is None else self._attendance.tombstone(session_id)
        if before is None or before.owner != owner or before.state is State.CLOSED:
            return KeyframeReason.FIRST_FRAME
        return KeyframeReason.EVICTED

    def _make_room(self) -> None:
        """Where there are too many, let the longest idle go, if its lease is over. Raises Overloaded."""
        while len(self._attendance) >= self.capacity:
            session = self._attendance.longest_resting()
            wait_s = FULL_WAIT_S
            if session is not None:
                wait_s = session.used_s + self._settings.lease_s - self._clock()
                if wait_s <= 0:
                    self.see_out(session, Event.EVICT)
                    continue
            self._watch.refused()
            detail = f"{self.capacity} sessions are open and in use; close one, or come again in {wait_s:.1f} s."
            raise Overloaded("too-many-sessions", detail, retry_after_s=wait_s)
