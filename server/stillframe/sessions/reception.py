"""Lets sessions in and sees them out: whose ids are whose, who makes room when there is none, what is said of the gone.

Knows no frame beyond taking back those that wait. Its caller holds the roster's lock.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Callable
from itertools import count

from stillframe.domain import KeyframeReason, Policy, ReuseMode
from stillframe.errors import NoSuchSession, Overloaded, RequestError
from stillframe.sessions.index import Attendance
from stillframe.sessions.pending import Replies
from stillframe.sessions.session import Service, Session
from stillframe.sessions.settings import SessionSettings
from stillframe.sessions.states import Event, State, Watch, gone
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
        self,
        session_id: str | None,
        owner: str,
        share: str,
        service: Service = Service.LOCKSTEP,
        mode: ReuseMode | None = None,
    ) -> Session:
        """Begin a session under an id that the owner has none of; None: one of ours. Raises as `Roster.open` does."""
        if session_id is not None and _ISSUED.fullmatch(session_id):
            raise self.missing(session_id, owner)
        self._make_room(share)
        session = Session(
            id=session_id or f"s-{secrets.token_hex(16)}",
            owner=owner,
            share=share,
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
            self._policy().forget(session.key)
            self._watch.ended(session.state)

    def missing(self, session_id: str, owner: str | None) -> RequestError:
        """What is said of an id under which this owner has no session."""
        before = self._attendance.tombstone(owner, session_id)
        if before is not None:
            return gone(before.state)
        return NoSuchSession("unknown-session", "No session has this id; open one, and leave the id to the daemon.")

    def _opening(self, session_id: str | None, owner: str) -> KeyframeReason:
        """Why a new session's first frame is whole: one that its owner did not close has lost what it had."""
        before = None if session_id is None else self._attendance.tombstone(owner, session_id)
        if before is None or before.state is State.CLOSED:
            return KeyframeReason.FIRST_FRAME
        return KeyframeReason.EVICTED

    def _make_room(self, share: str) -> None:
        """Where there are too many sessions, let one go that has nothing in flight. Raises Overloaded."""
        while len(self._attendance) >= self.capacity:
            session = self._yielding(share)
            wait_s = FULL_WAIT_S
            if session is not None:
                wait_s = session.used_s + self._settings.lease_s - self._clock()
                if wait_s <= 0 or self._over_its_share(session, share):
                    self.see_out(session, Event.EVICT)
                    continue
            self._watch.refused()
            detail = f"{self.capacity} sessions are open and in use; close one, or come again in {wait_s:.1f} s."
            raise Overloaded("too-many-sessions", detail, retry_after_s=wait_s)

    def _yielding(self, share: str) -> Session | None:
        """Which session makes room for one more of a share, if its lease is over: never one of a share with fewer.

        First one of the share that has most, if that has at least two more: its lease does not protect it.
        """
        resting = self._attendance.resting_by_share()
        fullest = max(resting.values(), key=lambda session: (self._held(session), -session.used_s), default=None)
        if fullest is not None and self._over_its_share(fullest, share):
            return fullest
        least = self._attendance.held_by(share)
        may = [session for of, session in resting.items() if of == share or self._held(session) > least]
        return min(may, key=lambda session: session.used_s, default=None)

    def _over_its_share(self, session: Session, newcomer: str) -> bool:
        return self._held(session) >= self._attendance.held_by(newcomer) + 2

    def _held(self, session: Session) -> int:
        return self._attendance.held_by(session.share)
