"""A sessions room over a device that answers when it is told to, with a clock that is set by hand. Knows no wire."""

from __future__ import annotations

import itertools
import logging
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from dataclasses import dataclass, field

import numpy as np
import pytest

from stillframe.domain import ActionChunk, CacheReport, KVUsage, Observation, SessionRef, Step, StepReport
from stillframe.sessions.pending import FramePosition, FrameSubmission, Ticket
from stillframe.sessions.registry import SessionRegistry
from stillframe.sessions.session import ServiceMode, Session
from stillframe.sessions.settings import SessionSettings

SEEN = Observation({}, "go")


@dataclass(eq=False)
class Job:
    """A frame that the device was given."""

    ref: SessionRef
    answer: Future[Step] = field(default_factory=Future)


@dataclass
class Device:
    """The policy: takes frames, computes the first of them when told to, one at a time."""

    slots: int = 0
    refusal: Exception | None = None  # of the next frames
    jobs: list[Job] = field(default_factory=list)  # all that it ever took
    forgotten: list[str] = field(default_factory=list)
    running: Job | None = None

    @property
    def usage(self) -> KVUsage:
        """Only the slots matter here."""
        return KVUsage(0, 0, 0, self.slots)

    def submit(self, _: Observation, __: float, ref: SessionRef) -> Future[Step]:
        """Line up, or refuse."""
        if self.refusal is not None:
            raise self.refusal
        self.jobs.append(Job(ref))
        return self.jobs[-1].answer

    def forget(self, session_id: str) -> None:
        """Remember who was to be forgotten."""
        self.forgotten.append(session_id)

    @property
    def waiting(self) -> list[Job]:
        """Frames whose turn has not come, in their order."""
        return [job for job in self.jobs if not job.answer.done() and job is not self.running]

    def begin(self) -> Job:
        """Take up the frame that is next."""
        assert self.running is None
        self.running = self.waiting[0]
        assert self.running.answer.set_running_or_notify_cancel()
        return self.running

    def finish(self, error: Exception | None = None, *, kv_bytes: int = 0) -> Step | None:
        """Answer the frame that is computed, or the next one, or let it fail."""
        job = self.running or self.begin()
        self.running = None
        if error is not None:
            job.answer.set_exception(error)
            return None
        cache = CacheReport("adaptive", None, 0.5, 10, 20, kv_bytes, 1, epoch=job.ref.epoch, seq=job.ref.seq)
        whose = f"{job.ref.id} {job.ref.serial}"
        step = Step(ActionChunk(np.zeros((1, 7)), whose), StepReport({"queue": 0.1}, 7, cache))
        job.answer.set_result(step)
        return step


class Tally(Counter[str]):
    """A observer that counts."""

    def ended(self, state: str) -> None:
        """A session is no more."""
        self[str(state)] += 1

    def refused(self) -> None:
        """No room."""
        self["refused"] += 1

    def superseded(self) -> None:
        """A frame gave way."""
        self["superseded"] += 1

    def replayed(self) -> None:
        """A frame was a repeat."""
        self["replayed"] += 1


class Wire:
    """A connection that remembers what it lost."""

    def __init__(self) -> None:
        self.lost_ids: list[str] = []

    def lost(self, session_id: str) -> None:
        """Somebody took it over."""
        self.lost_ids.append(session_id)


class Room:
    """The registry and all that it was given."""

    def __init__(self, slots: int = 0, **settings: object):
        self.now_s = 1000.0
        self.device = Device(slots)
        self.tally = Tally()
        self.registry = SessionRegistry(
            SessionSettings(**settings), lambda: self.device, lambda: self.now_s, self.tally
        )
        self._digests = itertools.count()

    def open(self, session_id: str | None = None, owner: str = "me", **said: object) -> Session:
        """Open or resume a session."""
        return self.registry.open(session_id, owner=owner, **said)[0]

    def realtime(self) -> Session:
        """A session whose newest frame wins."""
        return self.open(service=ServiceMode.REALTIME)

    def wire(self) -> Wire:
        """A connection."""
        return Wire()

    def enter(self, session_id: str, owner: str = "me") -> Session:
        """Find or open."""
        return self.registry.find_or_create(session_id, owner=owner)

    def frame(
        self,
        session: Session,
        seq: int | None = None,
        digest: bytes | None = None,
        *,
        epoch: int | None = None,
        key: str | None = None,
        **said: object,
    ) -> Ticket:
        """Submit a frame, unlike any other if no digest is given."""
        contents = b"%d" % next(self._digests) if digest is None else digest
        return self.registry.submit(
            session, FrameSubmission(SEEN, 100.0, FramePosition(epoch, seq, key), contents, **said)
        )

    def answered(self, session: Session, *args: object, **said: object) -> Ticket:
        """Submit a frame and have it answered."""
        ticket = self.frame(session, *args, **said)
        self.device.finish()
        return ticket

    def size(self) -> int:
        """How much the room holds, whatever it is."""
        index = self.registry._index
        return sum(len(book) for book in vars(index).values() if hasattr(book, "__len__"))


@pytest.fixture(scope="session")
def new_room() -> Callable[..., Room]:
    """Make rooms: `new_room(slots, most=2, ...)`."""
    return Room


@pytest.fixture
def room() -> Room:
    """A room with the default settings."""
    return Room()


@pytest.fixture(autouse=True)
def _nothing_goes_wrong_unseen(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """A future's callback that raises is only logged: a test during which that happens has failed."""
    yield
    assert [record.getMessage() for record in caplog.get_records("call") if record.levelno >= logging.ERROR] == []
