"""Takes a session's frames to the policy: which are taken, which are repeats, which are refused, who is told what.

Knows no wire and does not know who is here. Its caller holds the roster's lock; the policy's threads take it.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future
from functools import partial
from threading import RLock

from stillframe.domain import Observation, Policy, ReuseMode, SessionRef, Step
from stillframe.errors import Conflict, TooMany
from stillframe.sessions.index import Attendance
from stillframe.sessions.pending import Exchange, Place, Superseded, Ticket
from stillframe.sessions.session import Connection, Service, Session
from stillframe.sessions.states import Event, Watch

BUSY_WAIT_S = 0.05  # until one of a session's frames may have been answered: that of a fast control period


class Admission:
    """The rules of `submit`, in their order."""

    def __init__(self, waiting: int, policy: Callable[[], Policy], attendance: Attendance, watch: Watch, lock: RLock):
        self._waiting = waiting
        self._policy = policy
        self._attendance = attendance
        self._watch = watch
        self._lock = lock

    def submit(
        self,
        session: Session,
        observation: Observation,
        max_age_ms: float,
        place: Place,
        digest: bytes,
        mode: ReuseMode | None,
        connection: Connection | None,
    ) -> Ticket:
        """Have a frame computed, or claim the answer to the one that it repeats. Raises RequestError."""
        session.check_connection(connection)
        session.check_epoch(place.epoch)
        exchange = session.replies.find(place)
        if exchange is None:
            exchange = Exchange(session.epoch, session.next_seq(place), digest, place.key, connection)
        else:
            self._check_repeat(session, exchange, digest)
            exchange.connection = connection
            if not exchange.failed:
                self._watch.replayed()
                return self._ticket(exchange, replayed=True)
        return self._begin(session, exchange, partial(self._policy().submit, observation, max_age_ms), mode)

    def leave(self, session: Session, connection: Connection) -> None:
        """Give up for everybody who asked through a connection that is no more."""
        for exchange in list(session.in_flight):
            if exchange.connection is connection:
                for waiter in list(exchange.waiters):
                    waiter.cancel()

    def _check_repeat(self, session: Session, earlier: Exchange, digest: bytes) -> None:
        if earlier.digest != digest:
            detail = (
                "has been here with other contents; a repeat is equal to the byte, a new frame has a new seq or key."
            )
            raise Conflict("seq-conflict", f"Frame {earlier.seq} of epoch {earlier.epoch} {detail}")
        if earlier.failed and session.service is Service.REALTIME and earlier.seq < session.last_seq:
            raise Superseded(session.last_seq)  # it would come after a newer one

    def _begin(
        self, session: Session, exchange: Exchange, ask: Callable[[SessionRef], Future[Step]], mode: ReuseMode | None
    ) -> Ticket:
        self._make_room(session, exchange.seq)
        computing = ask(session.ref(exchange, mode))  # may refuse: then nothing has happened to the session
        exchange.computing = computing
        session.untouched = False
        session.last_seq = max(session.last_seq, exchange.seq)
        session.in_flight.append(exchange)
        session.replies.keep(exchange)
        self._attendance.happen(session, Event.FRAME)
        ticket = self._ticket(exchange, replayed=False)  # before the next line: a full engine has answered already
        computing.add_done_callback(partial(self._settle, session, exchange))
        return ticket

    def _make_room(self, session: Session, seq: int) -> None:
        """Realtime: what waits gives way. Lock-step: the frame does. Raises TooMany."""
        if session.service is Service.REALTIME:
            for exchange in list(session.in_flight):
                if exchange.withdraw(Superseded(seq)):
                    self._watch.superseded()
        elif len(session.in_flight) > self._waiting:
            detail = (
                f"{len(session.in_flight)} frames of this session are under way; wait for an answer before the next."
            )
            raise TooMany("session-busy", detail, retry_after_s=BUSY_WAIT_S)

    def _ticket(self, exchange: Exchange, *, replayed: bool) -> Ticket:
        waiter: Future[Step] = Future()
        waiter.add_done_callback(partial(self._left, exchange))
        exchange.add_waiter(waiter)
        return Ticket(waiter, exchange.epoch, exchange.seq, replayed)

    def _left(self, exchange: Exchange, waiter: Future[Step]) -> None:
        """Take back a frame for which nobody waits any more. On the thread that gave up."""
        if not waiter.cancelled():
            return
        with self._lock:
            if waiter in exchange.waiters:
                exchange.waiters.remove(waiter)
                waiter.set_running_or_notify_cancel()  # for concurrent.futures.wait, to which it is not done before
                if not exchange.waiters:
                    exchange.withdraw()

    def _settle(self, session: Session, exchange: Exchange, _: Future[Step]) -> None:
        """Pass on what the policy said. On the policy's thread, or on one that took the frame back."""
        with self._lock:
            exchange.settle()
            session.in_flight.remove(exchange)
            session.replies.trim()
            if exchange.step is not None:
                session.warm = exchange.step.report.cache.kv_bytes > 0
            if not session.in_flight:
                self._attendance.happen(session, Event.SETTLE)
