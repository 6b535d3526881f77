"""Robots come, ask, drop their connections and go, in any order: what holds after every step."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test

from stillframe.errors import DeadlineExceeded, RequestError
from stillframe.sessions.session import ServiceMode
from stillframe.sessions.states import GONE, State

MOST, LEASE_S, REPLIES, WAITING = 3, 5, 2, 1
OWNERS, IDS = ("me", "you"), ("a", "b", "c", "d", None)
RESTING, AT_WORK = {State.IDLE, State.AWAY}, {State.BUSY, State.LEAVING}
EXPECTED = {"session-exists", "unknown-session", "too-many-sessions", "session-in-use", "stale-epoch", "stale-seq"}
EXPECTED |= {"seq-conflict", "session-busy", "superseded", "session-closed", "session-expired", "session-evicted"}
picks = st.integers(0, 1000)


class Faults(logging.Handler):
    """What futures' callbacks raised: they only log it."""

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.records: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        """Keep it."""
        self.records.append(record.getMessage())


class Robots(RuleBasedStateMachine):
    """A room with three places, and whoever wants to be in it."""

    new_room: Callable[..., Any]

    def __init__(self) -> None:
        super().__init__()
        self.room = self.new_room(most=MOST, lease_s=LEASE_S, ttl_s=20, resume_s=6, replies=REPLIES, waiting=WAITING)
        self.sessions: list[Any] = []  # all that ever were
        self.before: dict[int, tuple[State, int, int]] = {}  # serial -> state, epoch, last seq after the last step
        self.tickets: list[tuple[Any, Any]] = []
        self.ends: Counter[int] = Counter()  # how often each ticket's future was settled
        self.wires: dict[int, Any] = {}  # serial -> the last connection that held it
        self.faults = Faults()
        logging.getLogger("concurrent.futures").addHandler(self.faults)

    @contextmanager
    def refusals(self) -> Iterator[None]:
        """A step that may be refused, with a code that belongs to sessions."""
        try:
            yield
        except RequestError as error:
            if error.code not in EXPECTED:
                raise

    def known(self, session: Any) -> Any:
        """Remember a session that the registry handed out."""
        if session not in self.sessions:
            self.sessions.append(session)
        return session

    def pick(self, number: int) -> Any:
        """One that is here, or now and then one that was."""
        live = [session for session in self.sessions if session.live]
        among = live if live and number % 5 else self.sessions[-2 * MOST :]
        return among[number % len(among)]

    @rule(id=st.sampled_from(IDS), owner=st.sampled_from(OWNERS), service=st.sampled_from(ServiceMode))
    def open(self, id: str | None, owner: str, service: ServiceMode) -> None:  # noqa: A002 (the word for it)
        """Somebody opens a session on purpose."""
        with self.refusals():
            self.known(self.room.open(id, owner, service=service))

    @rule(id=st.sampled_from(IDS[:-1]), owner=st.sampled_from(OWNERS))
    def enter(self, id: str, owner: str) -> None:  # noqa: A002
        """Somebody names an id."""
        with self.refusals():
            self.known(self.room.enter(id, owner))

    @precondition(lambda self: self.sessions)
    @rule(
        which=picks,
        ahead=st.sampled_from([None, None, 1, 3, 0, -1]),
        epoch=st.sampled_from([None, None, None, 0, 0, 1]),
    )
    def frame(self, which: int, ahead: int | None, epoch: int | None) -> None:
        """A frame: the next, one further on, a repeat, or a stale one; contents go by the seq."""
        session = self.pick(which)
        seq = None if ahead is None else max(session.last_seq + ahead, 0)
        digest = None if seq is None else b"%d" % seq
        wire = session.connection if which % 7 else None
        said = None if epoch is None else session.epoch + epoch
        with self.refusals():
            ticket = self.room.frame(session, seq, digest, epoch=said, connection=wire)
            assert session.live
            assert session.connection in (None, wire)
            assert said in (None, session.epoch)
            number = len(self.tickets)
            ticket.future.add_done_callback(lambda _: self.ends.update([number]))
            self.tickets.append((session, ticket))

    @precondition(lambda self: self.room.device.running is None and self.room.device.waiting)
    @rule()
    def begin(self) -> None:
        """The device takes up the next frame."""
        self.room.device.begin()

    @precondition(lambda self: self.room.device.running or self.room.device.waiting)
    @rule(fails=st.sampled_from([False, False, True]))
    def finish(self, *, fails: bool) -> None:
        """The device answers."""
        self.room.device.finish(DeadlineExceeded("deadline-exceeded", "too old") if fails else None)

    @precondition(lambda self: self.tickets)
    @rule(which=picks)
    def give_up(self, which: int) -> None:
        """Somebody waits no more."""
        self.tickets[-1 - which % len(self.tickets)][1].give_up()

    @precondition(lambda self: self.sessions)
    @rule(which=picks, epoch=st.sampled_from([None, 0, 1, 2]))
    def reset(self, which: int, epoch: int | None) -> None:
        """An episode ends."""
        session = self.pick(which)
        with self.refusals():
            self.room.registry.reset(session, epoch=None if epoch is None else session.epoch + epoch)

    @precondition(lambda self: self.sessions)
    @rule(which=picks)
    def attach(self, which: int) -> None:
        """A connection wants to hold a session."""
        session, wire = self.pick(which), self.room.wire()
        with self.refusals():
            self.room.registry.attach(session, wire)
            self.wires[session.serial] = wire

    @precondition(lambda self: self.sessions)
    @rule(which=picks)
    def leave(self, which: int) -> None:
        """A connection drops."""
        session = self.pick(which)
        self.room.registry.leave(session, self.wires.get(session.serial, self.room.wire()))

    @precondition(lambda self: self.sessions)
    @rule(which=picks)
    def resume(self, which: int) -> None:
        """Somebody shows a secret; of one that is gone it opens another, where the client chose the id."""
        session = self.pick(which)
        with self.refusals():
            self.known(self.room.open(session.id, session.owner, secret=session.secret))

    @precondition(lambda self: self.sessions)
    @rule(which=picks, sure=st.sampled_from([True, False, False]))
    def close(self, which: int, *, sure: bool) -> None:
        """Its client is done."""
        if sure:
            self.room.registry.close(self.pick(which))

    @rule(seconds=st.sampled_from([1, 3, 6, 10, 25]))
    def wait(self, seconds: int) -> None:
        """Time goes by."""
        self.room.now_s += seconds

    @rule()
    def sweep(self) -> None:
        """Somebody looks round."""
        self.room.registry.sweep()

    @invariant()
    def nobody_is_over_the_limit(self) -> None:
        """Places, frames in flight, answers kept."""
        live = [session for session in self.sessions if session.live]
        assert len(live) == sum(self.room.registry.counts().values()) <= MOST
        for session in live:
            assert len(session.in_flight) <= (2 if session.service is ServiceMode.REALTIME else 1 + WAITING)
            assert len(session.replies) <= REPLIES + len(session.in_flight)

    @invariant()
    def states_tell_the_truth(self) -> None:
        """At work if and only if frames are in flight; held by a connection only when here."""
        for session in self.sessions:
            if session.live:
                assert (session.state in AT_WORK) == bool(session.in_flight)
            assert session.connection is None or session.state in (State.IDLE, State.BUSY)

    @invariant()
    def the_orders_are_in_order(self) -> None:
        """Those at rest by their last use, those away by their leaving, and nobody else."""
        book = self.room.registry._index
        resting, away = list(book._resting.values()), list(book._away.values())
        assert resting == sorted(resting, key=lambda session: session.used_s)
        assert away == sorted(away, key=lambda session: session.left_s)
        live = [session for session in self.sessions if session.live]
        assert {session.serial for session in resting} == {s.serial for s in live if s.state in RESTING}
        assert {session.serial for session in away} == {s.serial for s in live if s.state is State.AWAY}

    @invariant()
    def what_rises_does_not_fall(self) -> None:
        """Serials, epochs, seqs; nothing at work was thrown out, nor within its lease but of an owner with several."""
        serials = [session.serial for session in self.sessions]
        assert len(set(serials)) == len(serials)
        for session in self.sessions:
            state, epoch, seq = self.before.get(session.serial, (session.state, 0, -1))
            assert (session.epoch, session.last_seq) >= (epoch, seq)
            assert state not in GONE or session.state is state
            if session.state in (State.EXPIRED, State.EVICTED) and state not in GONE:
                assert state in RESTING
                others = [one for one in self.sessions if one.owner == session.owner and one is not session]
                several = any(self.before.get(one.serial, (State.CLOSED,))[0] not in GONE for one in others)
                assert session.used_s + LEASE_S <= self.room.now_s or (session.state is State.EVICTED and several)
        for session in self.sessions:
            self.before[session.serial] = session.state, session.epoch, session.last_seq

    @invariant()
    def every_end_is_told_once(self) -> None:
        """The device forgets each ended session once, and each end is counted."""
        ended = [session for session in self.sessions if not session.live]
        assert Counter(self.room.device.forgotten) == Counter(session.key for session in ended)
        assert sum(self.room.tally[state.value] for state in GONE) == len(ended)

    @invariant()
    def answers_are_ones_own(self) -> None:
        """What a ticket holds was computed for its session and its place."""
        for session, ticket in self.tickets:
            if ticket.future.done() and not ticket.future.cancelled() and ticket.future.exception() is None:
                step = ticket.future.result()
                assert step.chunk.unnorm_key == f"{session.key} {session.serial}"
                assert (step.report.cache.epoch, step.report.cache.seq) == (ticket.epoch, ticket.seq)

    @invariant()
    def nobody_waits_for_nothing(self) -> None:
        """A ticket is open only as long as the device has its frame; no callback failed."""
        has = {(job.ref.id, job.ref.serial, job.ref.epoch, job.ref.seq) for job in self.room.device.waiting}
        if self.room.device.running is not None:
            ref = self.room.device.running.ref
            has.add((ref.id, ref.serial, ref.epoch, ref.seq))
        for session, ticket in self.tickets:
            if not ticket.future.done():
                assert (session.key, session.serial, ticket.epoch, ticket.seq) in has
        assert self.faults.records == []

    def teardown(self) -> None:
        """In the end everything is answered, once."""
        while self.room.device.running or self.room.device.waiting:
            self.room.device.finish()
        logging.getLogger("concurrent.futures").removeHandler(self.faults)
        assert self.faults.records == []
        assert self.ends == Counter(range(len(self.tickets)))
        assert [session.in_flight for session in self.sessions] == [[]] * len(self.sessions)


def test_robots_come_and_go(new_room: Callable[..., Any]) -> None:
    """Never over the limit, nobody at work thrown out, every frame answered once, nothing mixed up."""
    walk = type("Walk", (Robots,), {"new_room": staticmethod(new_room)})

    run_state_machine_as_test(walk, settings=settings(stateful_step_count=60, derandomize=True))
