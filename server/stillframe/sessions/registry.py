"""The roster of sessions: who may come in, who makes room, whose frames are taken, what is said of those who left.

Knows neither the wire nor the device. Called on the event loop's thread; answers come on the policy's: one lock.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from threading import RLock

from stillframe.domain import Observation, Policy, ReuseMode
from stillframe.errors import Conflict
from stillframe.sessions.index import Attendance
from stillframe.sessions.pending import Place, Ticket
from stillframe.sessions.reception import Reception
from stillframe.sessions.session import Connection, Service, Session, SessionCard
from stillframe.sessions.settings import SessionSettings
from stillframe.sessions.states import Event, Watch, gone
from stillframe.sessions.submission import Admission
from stillframe.stopwatch import Clock


class Roster:
    """All sessions of a daemon. `policy` returns the loaded policy, whatever its state; it raises NotReady before."""

    def __init__(self, settings: SessionSettings, policy: Callable[[], Policy], clock: Clock, watch: Watch):
        self.settings = settings
        self._lock = RLock()
        self._attendance = Attendance(clock)
        self._reception = Reception(settings, policy, clock, self._attendance, watch)
        self._admission = Admission(settings.waiting, policy, self._attendance, watch, self._lock)

    @property
    def capacity(self) -> int:
        """How many sessions there can be. Raises NotReady while that hangs on a policy that is not loaded."""
        return self._reception.capacity

    def open(
        self,
        session_id: str | None,
        *,
        owner: str,
        share: str | None = None,
        service: Service = Service.LOCKSTEP,
        mode: ReuseMode | None = None,
        secret: str | None = None,
        connection: Connection | None = None,
    ) -> tuple[Session, bool]:
        """Open a session, under an id of ours for None; or resume the one whose secret this is: then True.

        It takes a place of `share`; None: the owner's own. Other owners may have sessions of the same id. A resumed
        session goes on as it was opened. A connection that held it has lost it, unless it asks itself.
        Raises Conflict for an id that the owner has in use, NoSuchSession and Gone for one of ours, Overloaded at
        capacity.
        """
        with self._lock:
            self.sweep()
            session = None if session_id is None else self._attendance.get(owner, session_id)
            if session is None:
                return self._reception.welcome(session_id, owner, share or owner, service, mode), False
            if secret is None or not session.knows(secret):
                detail = "A session of this id is open; resume it with its secret, or choose another id."
                raise Conflict("session-exists", detail)
            held_by, session.connection = session.connection, None
            self._attendance.happen(session, Event.RESUME)
        if held_by is not None and held_by is not connection:
            held_by.lost(session.id)
        return session, True

    def enter(self, session_id: str, *, owner: str, share: str | None = None) -> Session:
        """Find a session, or open it if its client chose the id. Raises as `open` does."""
        with self._lock:
            self.sweep()
            session = self._attendance.get(owner, session_id)
            if session is None:
                session = self._reception.welcome(session_id, owner, share or owner)
                session.untouched = True
            return session

    def find(self, session_id: str, *, owner: str | None) -> Session:
        """Find a session; an owner of None: of any. Raises NoSuchSession, Gone, and Conflict where several have it."""
        with self._lock:
            self.sweep()
            if owner is None:
                return self._only(session_id)
            session = self._attendance.get(owner, session_id)
            if session is None:
                raise self._reception.missing(session_id, owner)
            return session

    def submit(
        self,
        session: Session,
        observation: Observation,
        max_age_ms: float,
        place: Place,
        digest: bytes,
        mode: ReuseMode | None = None,
        connection: Connection | None = None,
    ) -> Ticket:
        """Have a frame computed, or claim the answer to the one that it repeats; `digest` tells frames apart.

        Raises Gone, Conflict (session-in-use, stale-epoch, seq-conflict, stale-seq, superseded),
        TooMany (session-busy), and what the policy refuses with.
        """
        with self._lock:
            self._check_live(session)
            return self._admission.submit(session, observation, max_age_ms, place, digest, mode, connection)

    def reset(self, session: Session, *, epoch: int | None = None) -> int:
        """Begin the session's next episode and return its epoch; frames in flight are answered all the same.

        With `epoch`, the one to be in afterwards, a repeat changes nothing. Raises Gone, Conflict stale-epoch.
        """
        with self._lock:
            self._check_live(session)
            following = session.epoch if session.untouched else session.epoch + 1
            wanted = following if epoch is None else epoch
            if wanted not in (session.epoch, session.epoch + 1):
                session.check_epoch(wanted)
            if wanted > session.epoch:
                session.begin_epoch()
            session.untouched = False
            self._attendance.happen(session, Event.RESET)
            return session.epoch

    def reset_named(self, session_id: str, *, owner: str, share: str | None = None, epoch: int | None = None) -> int:
        """Reset the session of that id; one that nobody knew begins with epoch 0, for there is nothing to end."""
        with self._lock:
            return self.reset(self.enter(session_id, owner=owner, share=share), epoch=epoch)

    def close(self, session: Session) -> None:
        """End a session; one that has ended stays as it is. Frames that wait are answered with Gone."""
        with self._lock:
            self._reception.see_out(session, Event.CLOSE)

    def attach(self, session: Session, connection: Connection) -> None:
        """Let a connection hold the session: nobody else sends frames. Raises Conflict while another holds it; Gone."""
        with self._lock:
            self._check_live(session)
            session.check_connection(connection)
            session.connection = connection
            self._attendance.happen(session, Event.RESUME)

    def leave(self, session: Session, connection: Connection) -> None:
        """Let go of a session as its connection drops; what this one does not hold stays as it is."""
        with self._lock:
            if session.connection is connection:
                session.connection = None
                self._attendance.happen(session, Event.LEAVE)
                self._admission.leave(session, connection)

    def sweep(self) -> None:
        """End the sessions that are due and forget old tombstones: whoever comes has it done, a daemon at rest too."""
        with self._lock:
            while (session := self._attendance.due(self.settings.ttl_s, self.settings.resume_s)) is not None:
                self._reception.see_out(session, Event.EXPIRE)
            self._attendance.clear_tombstones(self.settings.ttl_s)

    def listing(self, owner: str | None) -> list[SessionCard]:
        """Describe an owner's sessions; None: everybody's."""
        with self._lock:
            return [session.card() for session in self._attendance if owner in (None, session.owner)]

    def counts(self) -> Mapping[str, int]:
        """How many sessions are in each live state."""
        with self._lock:
            return self._attendance.counts()

    def _only(self, session_id: str) -> Session:
        """The one session of that id, whosever it is."""
        named = self._attendance.named(session_id)
        if len(named) > 1:
            owners = ", ".join(sorted(session.owner for session in named))
            detail = f"Sessions of {owners} have this id; add ?owner= with one of these names."
            raise Conflict("session-ambiguous", detail)
        if not named:
            raise self._reception.missing(session_id, None)
        return named[0]

    def _check_live(self, session: Session) -> None:
        if not session.live:
            raise gone(session.state)
