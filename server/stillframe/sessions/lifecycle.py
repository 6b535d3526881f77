"""Create and end sessions; evict the least recently used one at capacity, shared fairly among callers.

Knows no frame beyond withdrawing those that wait. Its caller holds the registry's lock.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Callable
from itertools import count

from stillframe.domain import KeyframeReason, Policy, ReuseMode
from stillframe.errors import NoSuchSession, Overloaded, RequestError
from stillframe.sessions.index import SessionIndex
from stillframe.sessions.pending import ReplyCache
from stillframe.sessions.session import ServiceMode, Session, SessionObserver
from stillframe.sessions.settings import SessionSettings
from stillframe.sessions.states import Event, State, gone
from stillframe.stopwatch import Clock

WITHOUT_POOL = 64  # sessions at once, where neither settings nor a KV pool say how many
FULL_WAIT_S = 1.0  # when every session is busy
_ISSUED = re.compile(r"s-[0-9a-f]{32}")  # the form of generated ids; a client may not choose one like it


class SessionLifecycle:
    """Creates and ends sessions. Calls `policy` each time: it raises NotReady while none is loaded."""

    def __init__(
        self,
        settings: SessionSettings,
        policy: Callable[[], Policy],
        clock: Clock,
        index: SessionIndex,
        observer: SessionObserver,
    ):
        self._settings = settings
        self._policy = policy
        self._clock = clock
        self._index = index
        self._observer = observer
        self._serials = count(1)

    @property
    def capacity(self) -> int:
        """How many sessions can be open at once."""
        return self._settings.most or self._policy().usage.slots or WITHOUT_POOL

    def create(
        self,
        session_id: str | None,
        owner: str,
        share: str,
        service: ServiceMode = ServiceMode.LOCKSTEP,
        mode: ReuseMode | None = None,
    ) -> Session:
        """Open a session under an id that is free; None: a generated one. Raises as `SessionRegistry.open` does."""
        if session_id is not None and _ISSUED.fullmatch(session_id):
            raise self.not_found(session_id, owner)
        self._make_room(share)
        session = Session(
            id=session_id or f"s-{secrets.token_hex(16)}",
            owner=owner,
            share=share,
            secret=secrets.token_urlsafe(24),
            serial=next(self._serials),
            service=service,
            mode=mode,
            first_reason=self._first_reason(session_id, owner),
            replies=ReplyCache(self._settings.replies),
            clock=self._clock,
        )
        self._index.add(session)
        return session

    def end(self, session: Session, event: Event) -> None:
        """End a session; no effect on an ended one. Waiting frames are answered with Gone."""
        was_live = session.live
        self._index.apply(session, event)
        if was_live:
            session.connection = None
            for pending in list(session.in_flight):
                pending.withdraw(gone(session.state))
            session.replies.clear()
            self._policy().forget(session.key)
            self._observer.ended(session.state)

    def not_found(self, session_id: str, owner: str | None) -> RequestError:
        """The error for an id of which this owner has no session: Gone with its reason, or NoSuchSession."""
        before = self._index.tombstone(owner, session_id)
        if before is not None:
            return gone(before.state)
        return NoSuchSession("unknown-session", "No session has this id; open one, and leave the id to the daemon.")

    def _first_reason(self, session_id: str | None, owner: str) -> KeyframeReason:
        """Why the first frame is a keyframe: `evicted` where the id's last session was not closed by its client."""
        before = None if session_id is None else self._index.tombstone(owner, session_id)
        if before is None or before.state is State.CLOSED:
            return KeyframeReason.FIRST_FRAME
        return KeyframeReason.EVICTED

    def _make_room(self, share: str) -> None:
        """At capacity, evict a session with nothing in flight. Raises Overloaded."""
        while len(self._index) >= self.capacity:
            session = self._victim(share)
            wait_s = FULL_WAIT_S
            if session is not None:
                wait_s = session.used_s + self._settings.lease_s - self._clock()
                if wait_s <= 0 or self._over_its_share(session, share):
                    self.end(session, Event.EVICT)
                    continue
            self._observer.refused()
            detail = f"{self.capacity} sessions are open and in use; close one, or come again in {wait_s:.1f} s."
            raise Overloaded("too-many-sessions", detail, retry_after_s=wait_s)

    def _victim(self, share: str) -> Session | None:
        """The session to evict for one more of `share`, if its lease is over: never one of a share with fewer.

        A share with at least two more gives one up first, whatever its lease.
        """
        resting = self._index.least_recently_used_by_share()
        largest = max(resting.values(), key=lambda session: (self._held(session), -session.used_s), default=None)
        if largest is not None and self._over_its_share(largest, share):
            return largest
        least = self._index.held_by(share)
        may = [session for of, session in resting.items() if of == share or self._held(session) > least]
        return min(may, key=lambda session: session.used_s, default=None)

    def _over_its_share(self, session: Session, newcomer: str) -> bool:
        return self._held(session) >= self._index.held_by(newcomer) + 2

    def _held(self, session: Session) -> int:
        return self._index.held_by(session.share)
