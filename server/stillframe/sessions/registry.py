"""The registry of sessions: open, find, reset and end them, and submit their frames.

Knows neither the wire nor the device. Called on the event loop's thread, answered on the policy's: one lock.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from threading import RLock

from stillframe.domain import Policy, ReuseMode
from stillframe.errors import Conflict
from stillframe.sessions.index import SessionIndex
from stillframe.sessions.lifecycle import SessionLifecycle
from stillframe.sessions.pending import FrameSubmission, Ticket
from stillframe.sessions.session import Connection, EndedSession, ServiceMode, Session, SessionInfo, SessionObserver
from stillframe.sessions.settings import SessionSettings
from stillframe.sessions.states import Event, gone
from stillframe.sessions.submission import FrameSubmitter
from stillframe.stopwatch import Clock


class SessionRegistry:
    """All sessions of a daemon. `policy` returns the loaded policy, whatever its state; it raises NotReady before."""

    def __init__(
        self, settings: SessionSettings, policy: Callable[[], Policy], clock: Clock, observer: SessionObserver
    ):
        self.settings = settings
        self._lock = RLock()
        self._clock = clock
        self._index = SessionIndex(clock)
        self._lifecycle = SessionLifecycle(settings, policy, clock, self._index, observer)
        self._submitter = FrameSubmitter(settings.waiting, policy, self._index, observer, self._lock)

    @property
    def capacity(self) -> int:
        """How many sessions can be open. Raises NotReady while that depends on a policy that is not loaded."""
        return self._lifecycle.capacity

    def open(
        self,
        session_id: str | None,
        *,
        owner: str,
        share: str | None = None,
        service: ServiceMode = ServiceMode.LOCKSTEP,
        mode: ReuseMode | None = None,
        secret: str | None = None,
        connection: Connection | None = None,
    ) -> tuple[Session, bool]:
        """Open a session, or resume an open one by its secret: then True. `session_id` None: an id is generated.

        It counts against `share`; None: the owner's own. Ids are unique per owner. A resumed session keeps its
        service mode and reuse mode; another connection that held it loses it.
        Raises Conflict for an id that the owner has in use, NoSuchSession and Gone for an unknown id of the generated
        form, Overloaded at capacity.
        """
        with self._lock:
            self.sweep()
            session = None if session_id is None else self._index.get(owner, session_id)
            if session is None:
                return self._lifecycle.create(session_id, owner, share or owner, service, mode), False
            if secret is None or not session.check_secret(secret):
                detail = "A session of this id is open; resume it with its secret, or choose another id."
                raise Conflict("session-exists", detail)
            held_by, session.connection = session.connection, None
            self._index.apply(session, Event.RESUME)
        if held_by is not None and held_by is not connection:
            held_by.lost(session.id)
        return session, True

    def find_or_create(self, session_id: str, *, owner: str, share: str | None = None) -> Session:
        """Find a session, or open it under an id that its client chose. Raises as `open` does."""
        with self._lock:
            self.sweep()
            session = self._index.get(owner, session_id)
            if session is None:
                session = self._lifecycle.create(session_id, owner, share or owner)
                session.implicit = True
            return session

    def find(self, session_id: str, *, owner: str | None) -> Session:
        """Find a session; owner None: any owner's. Raises NoSuchSession, Gone, and Conflict where several match."""
        with self._lock:
            self.sweep()
            if owner is None:
                return self._only(session_id)
            session = self._index.get(owner, session_id)
            if session is None:
                raise self._lifecycle.not_found(session_id, owner)
            return session

    def submit(self, session: Session, frame: FrameSubmission) -> Ticket:
        """Queue a frame, or return the answer of the one that it repeats.

        Raises Gone, Conflict (session-in-use, stale-epoch, seq-conflict, stale-seq, superseded),
        TooMany (session-busy), and what the policy refuses with.
        """
        with self._lock:
            self._check_live(session)
            return self._submitter.submit(session, frame)

    def reset(self, session: Session, *, epoch: int | None = None) -> int:
        """Begin the session's next episode and return its epoch; frames in flight are still answered.

        `epoch`, the number of the next episode, makes a repeat idempotent. Raises Gone, Conflict stale-epoch.
        """
        with self._lock:
            self._check_live(session)
            following = session.epoch if session.implicit else session.epoch + 1
            wanted = following if epoch is None else epoch
            if wanted not in (session.epoch, session.epoch + 1):
                session.check_epoch(wanted)
            if wanted > session.epoch:
                session.begin_epoch()
            session.implicit = False
            self._index.apply(session, Event.RESET)
            return session.epoch

    def reset_named(self, session_id: str, *, owner: str, share: str | None = None, epoch: int | None = None) -> int:
        """Reset the session of that id; an unknown one is opened at epoch 0, and there is no episode to end."""
        with self._lock:
            return self.reset(self.find_or_create(session_id, owner=owner, share=share), epoch=epoch)

    def close(self, session: Session) -> None:
        """End a session; no effect on an ended one. Waiting frames are answered with Gone."""
        with self._lock:
            self._lifecycle.end(session, Event.CLOSE)

    def attach(self, session: Session, connection: Connection) -> None:
        """Bind the session to a connection, which alone may send frames. Raises Conflict where another does; Gone."""
        with self._lock:
            self._check_live(session)
            session.check_connection(connection)
            session.connection = connection
            self._index.apply(session, Event.RESUME)

    def leave(self, session: Session, connection: Connection) -> None:
        """Unbind a session from a connection that dropped; no effect where another holds it."""
        with self._lock:
            if session.connection is connection:
                session.connection = None
                self._index.apply(session, Event.LEAVE)
                self._submitter.cancel_waiters(session, connection)

    def sweep(self) -> None:
        """Expire due sessions and drop old tombstones. Every call does, and a timer while there are none."""
        with self._lock:
            while (session := self._index.due(self.settings.ttl_s, self.settings.resume_s)) is not None:
                self._lifecycle.end(session, Event.EXPIRE)
            self._index.clear_tombstones(self.settings.ttl_s)

    def listing(self, owner: str | None) -> list[SessionInfo]:
        """Describe an owner's sessions; None: all owners'."""
        with self._lock:
            return [session.info() for session in self._index if owner in (None, session.owner)]

    def ended(self, owner: str | None, most: int) -> list[EndedSession]:
        """An owner's sessions that ended last, the newest first; None: all owners'."""
        with self._lock:
            now_s = self._clock()
            return [
                EndedSession(name, stone.owner, stone.state, now_s - stone.ended_s)
                for name, stone in self._index.ended(owner, most)
            ]

    def counts(self) -> Mapping[str, int]:
        """How many sessions are in each live state."""
        with self._lock:
            return self._index.counts()

    def _only(self, session_id: str) -> Session:
        """The one session of that id, of any owner."""
        named = self._index.with_id(session_id)
        if len(named) > 1:
            owners = ", ".join(sorted(session.owner for session in named))
            detail = f"Sessions of {owners} have this id; add ?owner= with one of these names."
            raise Conflict("session-ambiguous", detail)
        if not named:
            raise self._lifecycle.not_found(session_id, None)
        return named[0]

    def _check_live(self, session: Session) -> None:
        if not session.live:
            raise gone(session.state)
