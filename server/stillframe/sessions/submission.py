"""Submits a session's frames to the policy: accepts, deduplicates or refuses each, and delivers the answers.

Knows no wire and no other session. Its caller holds the registry's lock; the policy's threads take it.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import replace
from functools import partial
from threading import RLock

from stillframe.domain import Policy, Step
from stillframe.errors import Conflict, TooMany
from stillframe.sessions.index import SessionIndex
from stillframe.sessions.pending import FrameSubmission, PendingFrame, Superseded, Ticket
from stillframe.sessions.session import Connection, ServiceMode, Session, SessionObserver
from stillframe.sessions.states import Event

BUSY_WAIT_S = 0.05  # to retry after: a fast control period, in which a frame may have been answered


class FrameSubmitter:
    """Checks a frame against its session in a fixed order, then queues it."""

    def __init__(
        self, waiting: int, policy: Callable[[], Policy], index: SessionIndex, observer: SessionObserver, lock: RLock
    ):
        self._waiting = waiting
        self._policy = policy
        self._index = index
        self._observer = observer
        self._lock = lock

    def submit(self, session: Session, frame: FrameSubmission) -> Ticket:
        """Queue a frame, or return the answer of the one that it repeats. Raises RequestError."""
        session.check_connection(frame.connection)
        session.check_epoch(frame.position.epoch)
        pending = session.replies.find(frame.position)
        if pending is None:
            seq = session.next_seq(frame.position)
            pending = PendingFrame(session.epoch, seq, frame.digest, frame.position.key, frame.connection)
        else:
            self._check_repeat(session, pending, frame.digest)
            pending.connection = frame.connection
            if not pending.failed:
                self._observer.replayed()
                return self._ticket(pending, replayed=True)
        return self._begin(session, pending, frame)

    def cancel_waiters(self, session: Session, connection: Connection) -> None:
        """Cancel every waiter that came through a connection that dropped."""
        for pending in list(session.in_flight):
            if pending.connection is connection:
                for waiter in list(pending.waiters):
                    waiter.cancel()

    def _check_repeat(self, session: Session, earlier: PendingFrame, digest: bytes) -> None:
        if earlier.digest != digest:
            detail = (
                "has been here with other contents; a repeat is equal to the byte, a new frame has a new seq or key."
            )
            raise Conflict("seq-conflict", f"Frame {earlier.seq} of epoch {earlier.epoch} {detail}")
        if earlier.failed and session.service is ServiceMode.REALTIME and earlier.seq < session.last_seq:
            raise Superseded(session.last_seq)  # it would be computed after a newer frame

    def _begin(self, session: Session, pending: PendingFrame, frame: FrameSubmission) -> Ticket:
        policy = self._policy()
        self._make_room(session, pending.seq)
        # May refuse: then the session is unchanged.
        ref = replace(session.ref(pending, frame.mode), slack_ms=frame.slack_ms, rtc=frame.rtc)
        computing = policy.submit(frame.observation, frame.max_age_ms, ref)
        pending.computing = computing
        session.implicit = False
        session.last_seq = max(session.last_seq, pending.seq)
        session.in_flight.append(pending)
        session.replies.keep(pending)
        self._index.apply(session, Event.FRAME)
        ticket = self._ticket(pending, replayed=False)  # first: the callback may run at once
        computing.add_done_callback(partial(self._settle, session, pending))
        return ticket

    def _make_room(self, session: Session, seq: int) -> None:
        """Realtime: drop the frames that wait. Lockstep: refuse this one beyond the limit. Raises TooMany."""
        if session.service is ServiceMode.REALTIME:
            for pending in list(session.in_flight):
                if pending.withdraw(Superseded(seq)):
                    self._observer.superseded()
        elif len(session.in_flight) > self._waiting:
            detail = (
                f"{len(session.in_flight)} frames of this session are under way; wait for an answer before the next."
            )
            raise TooMany("session-busy", detail, retry_after_s=BUSY_WAIT_S)

    def _ticket(self, pending: PendingFrame, *, replayed: bool) -> Ticket:
        waiter: Future[Step] = Future()
        waiter.add_done_callback(partial(self._on_cancelled, pending))
        pending.add_waiter(waiter)
        return Ticket(waiter, pending.epoch, pending.seq, replayed)

    def _on_cancelled(self, pending: PendingFrame, waiter: Future[Step]) -> None:
        """Withdraw a frame without waiters. Runs on the thread that cancelled."""
        if not waiter.cancelled():
            return
        with self._lock:
            if waiter in pending.waiters:
                pending.waiters.remove(waiter)
                waiter.set_running_or_notify_cancel()  # concurrent.futures.wait counts it as done only then
                if not pending.waiters:
                    pending.withdraw()

    def _settle(self, session: Session, pending: PendingFrame, _: Future[Step]) -> None:
        """Deliver the policy's answer. Runs on the policy's thread, or on one that withdrew the frame."""
        with self._lock:
            pending.settle()
            session.in_flight.remove(pending)
            session.replies.trim()
            if pending.step is not None:
                session.warm = pending.step.report.cache.kv_bytes > 0
            if not session.in_flight:
                self._index.apply(session, Event.SETTLE)
