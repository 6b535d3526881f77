"""The policy answers on a thread of its own, as an engine does, while clients ask, give up and go."""

from __future__ import annotations

import queue
import random
import sys
import threading
from concurrent.futures import Future, wait

import numpy as np
import pytest

from stillframe.domain import ActionChunk, CacheReport, KVUsage, Observation, Step, StepReport
from stillframe.errors import RequestError
from stillframe.sessions.index import SessionIndex
from stillframe.sessions.pending import FramePosition, FrameSubmission, PendingFrame, ReplyCache
from stillframe.sessions.registry import SessionRegistry
from stillframe.sessions.session import ServiceMode
from stillframe.sessions.settings import SessionSettings

SEEN = Observation({}, "go")


class Engine:
    """Answers each frame with its own place, on its own thread, as fast as it can."""

    usage = KVUsage(0, 0, 0)

    def __init__(self) -> None:
        self.line: queue.Queue = queue.Queue()
        self.forgotten: list[str] = []
        self.thread = threading.Thread(target=self.run)
        self.thread.start()

    def submit(self, _, __, ref):
        """Line up."""
        answer: Future[Step] = Future()
        self.line.put((ref, answer))
        return answer

    def forget(self, session_id):
        """Remember."""
        self.forgotten.append(session_id)

    def run(self):
        """Until None comes."""
        while (due := self.line.get()) is not None:
            ref, answer = due
            if answer.set_running_or_notify_cancel():
                cache = CacheReport("off", None, 0.0, 0, 1, 0, 0, epoch=ref.epoch, seq=ref.seq)
                answer.set_result(Step(ActionChunk(np.zeros((1, 7)), ref.id), StepReport({}, 1, cache)))

    def close(self):
        """Answer what is queued."""
        self.line.put(None)
        self.thread.join(60)
        assert not self.thread.is_alive()


@pytest.fixture
def engine():
    """An engine that is closed in the end."""
    engine = Engine()
    yield engine
    engine.close()


@pytest.fixture
def _eager_threads():
    """Threads that give way to each other a thousand times as often."""
    before_s = sys.getswitchinterval()
    sys.setswitchinterval(before_s / 1000)
    yield
    sys.setswitchinterval(before_s)


class Watched:
    """The registry's lock, which knows whether it is held."""

    depth = 0

    def __init__(self):
        self.lock = threading.RLock()

    def __enter__(self):
        self.lock.acquire()
        self.depth += 1

    def __exit__(self, *_):
        self.depth -= 1
        self.lock.release()


def test_nothing_of_a_session_is_touched_without_the_lock(new_room, monkeypatch):
    """Whatever is asked, given up or answered, on whichever thread; who lost a session is told when it is free."""
    lock, touched, told = Watched(), {}, []
    monkeypatch.setattr("stillframe.sessions.registry.RLock", lambda: lock)

    def spied(name, real):
        def spy(*args):
            touched.setdefault(name, set()).add(lock.depth > 0)
            return real(*args)

        return spy

    for kind, names in {
        SessionIndex: ["apply", "add", "get", "due", "counts", "__iter__", "clear_tombstones"],
        PendingFrame: ["settle", "withdraw", "add_waiter"],
        ReplyCache: ["find", "keep", "trim", "clear"],
    }.items():
        for name in names:
            monkeypatch.setattr(kind, name, spied(f"{kind.__name__}.{name}", getattr(kind, name)))
    room = new_room()
    session, wire = room.realtime(), room.wire()
    wire.lost = lambda _: told.append(lock.depth)
    room.registry.attach(session, wire)
    tickets = [room.frame(session, seq, b"%d" % seq, connection=wire) for seq in (1, 2, 3, 3)]
    for ticket in tickets:
        ticket.give_up()
    room.frame(session, 4, connection=wire)
    room.device.finish()
    room.registry.leave(session, wire)
    room.registry.attach(room.open(session.id, secret=session.secret), wire)
    room.open(session.id, secret=session.secret)
    room.enter("other")
    room.registry.reset_named("other", owner="me")
    room.registry.find("other", owner="me")
    room.registry.listing(None)
    room.registry.counts()
    room.registry.close(session)

    assert told == [0]
    assert [name for name, held in touched.items() if held != {True}] == []
    assert len(touched) == 14


@pytest.mark.usefixtures("_eager_threads")
@pytest.mark.parametrize("service", ServiceMode)
def test_answers_race_with_everything(engine, room, service):
    """Frames, repeats, resets, givings-up and closings from four threads: all tickets end, each with its own answer."""
    registry = SessionRegistry(SessionSettings(most=64, waiting=2), lambda: engine, lambda: 0.0, room.tally)
    sessions = [registry.open(None, owner="me", service=service)[0] for _ in range(6)]
    tickets, faults = [], []

    def client(seed):
        dice = random.Random(seed)  # noqa: S311 (a test's walk)
        for _ in range(1500):
            session = dice.choice(sessions)
            try:
                seq = dice.choice([None, max(session.last_seq, 0)])
                ticket = registry.submit(session, FrameSubmission(SEEN, 1.0, FramePosition(seq=seq), b"same"))
                tickets.append((session, ticket))
                dice.random() < 0.3 and ticket.give_up()
                dice.random() < 0.05 and registry.reset(session)
                dice.random() < 0.0003 and registry.close(session)
            except RequestError:
                pass
            except Exception as error:  # noqa: BLE001 (reported by the test's thread)
                faults.append(error)

    threads = [threading.Thread(target=client, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    done, open_still = wait([ticket.future for _, ticket in tickets], timeout=20)
    for session in sessions:
        registry.close(session)
    answers = [(s, t) for s, t in tickets if not t.future.cancelled() and t.future.exception() is None]

    assert faults == []
    assert not open_still
    assert len(done) == len(tickets)
    assert answers
    assert all(ticket.future.result().chunk.unnorm_key == session.key for session, ticket in answers)
    assert all(ticket.future.result().report.cache.seq == ticket.seq for _, ticket in answers)
    assert [session.in_flight for session in sessions] == [[]] * 6
    assert sorted(engine.forgotten) == sorted(session.key for session in sessions)
