"""Thousands of short sessions over every wire, closed or just left: what they leave behind when their time is over."""

from __future__ import annotations

import asyncio
import gc
import itertools
import json
import logging
import re
import time
import tracemalloc
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from prometheus_client import CollectorRegistry

from stillframe.domain import (
    ActionChunk,
    CacheReport,
    KeyframeReason,
    KVUsage,
    Observation,
    PolicyInfo,
    SessionRef,
    Step,
    StepReport,
)
from stillframe.engine.engine import Engine
from stillframe.metrics import Metrics
from stillframe.reuse.settings import ReuseSettings
from stillframe.sessions.index import MOST_TOMBSTONES
from stillframe.sessions.registry import SessionRegistry
from stillframe.sessions.settings import SessionSettings
from stillframe.testing import ManualClock
from stillframe.web.app import WebSettings
from stillframe_client.wire import pack

WAIT_S, SETTLE_S = 900.0, 20.0  # bounds; nothing is expected to take this long
GROWTH_BYTES = 512 * 1024  # for all sessions but the first fifth; a session that stayed would be some kilobytes
SETTINGS = SessionSettings(most=16, lease_s=5, ttl_s=120, resume_s=10)
FRAMES = 2
SLOT_BYTES = 1000
BLACK = np.zeros((16, 16, 3), np.uint8)
LASTING = ("Session", "Exchange", "Lane", "Stream", "OpenPIConnection", "Scenes", "Arrival", "Frame", "Ticket")


@dataclass
class InstantPolicy:
    """Answers before it is asked twice, and holds a slot for each session until told to forget it."""

    info: PolicyInfo
    ready: bool = True
    busy_s: float = 0.0
    held: set[str] = field(default_factory=set)

    @property
    def usage(self) -> KVUsage:
        """A slot for each session."""
        return KVUsage(len(self.held) * SLOT_BYTES, 64 * SLOT_BYTES, len(self.held), slots=64)

    def submit(
        self,
        observation: Observation,  # noqa: ARG002
        max_age_ms: float,  # noqa: ARG002
        session: SessionRef | None = None,
        *,
        share: str = "",  # noqa: ARG002
    ) -> Future[Step]:
        """Zeros."""
        answer: Future[Step] = Future()
        epoch, seq = (session.epoch, session.seq) if session else (0, 0)
        if session is not None:
            self.held.add(session.id)
        cache = CacheReport("exact", KeyframeReason.FIRST_FRAME, 0.0, 0, 20, SLOT_BYTES, 0, epoch=epoch, seq=seq)
        answer.set_result(Step(ActionChunk(np.zeros((1, 7)), "toy"), StepReport({"queue": 0.0}, 1, cache)))
        return answer

    def forget(self, session_id: str) -> None:
        """Free the slot."""
        self.held.discard(session_id)

    def close(self) -> None:
        """Nothing to end."""


@dataclass
class Floor:
    """A web floor, its clock, and the class of its WebSocket clients."""

    app: Any
    clock: ManualClock
    policy: Any
    socket: Any
    picture: bytes = field(default_factory=lambda: pack({"image": BLACK, "instruction": "go"}))
    names: Iterator[int] = field(default_factory=itertools.count)

    async def ask(self, method: str, path: str, body: bytes = b"", kind: str = "application/msgpack") -> Any:
        """A request and its answer: the document of a good one."""
        sent: list[dict[str, Any]] = []
        incoming = iter([{"type": "http.request", "body": body, "more_body": False}])

        async def receive() -> dict[str, Any]:
            return next(incoming, None) or await asyncio.Future()

        async def send(message: dict[str, Any]) -> None:
            sent.append(message)

        headers = [(b"host", b"localhost"), (b"content-type", kind.encode())]
        await self.app(
            {
                "type": "http",
                "asgi": {"version": "3.0"},
                "http_version": "1.1",
                "method": method,
                "scheme": "http",
                "path": path,
                "raw_path": path.encode(),
                "query_string": b"",
                "root_path": "",
                "headers": headers,
                "client": ("127.0.0.1", 1),
                "server": ("127.0.0.1", 80),
                "state": {},
            },
            receive,
            send,
        )
        body = b"".join(message.get("body", b"") for message in sent[1:])
        assert sent[0]["status"] < 300, body
        return body

    async def posted(self, *, close: bool) -> None:
        """A session over HTTP that is opened, used, and closed or left."""
        opened = json.loads(await self.ask("POST", "/v1/sessions", b"{}", "application/json"))
        path = f"/v1/sessions/{opened['session_id']}"
        for _ in range(FRAMES):
            await self.ask("POST", path + "/act", self.picture)
        if close:
            await self.ask("DELETE", path)

    async def implied(self) -> None:
        """A session that comes to be by its name, and is left."""
        name = f"robot-{next(self.names)}"
        for _ in range(FRAMES):
            await self.ask("POST", f"/v1/sessions/{name}/act", self.picture)

    async def streamed(self, *, close: bool) -> None:
        """A session over a stream of its own that is closed, or whose client just goes."""
        async with self.socket(self.app) as client:
            await client.hear("hello")
            opened = await client.ask("open", service=("lockstep", "realtime")[next(self.names) % 2])
            for _ in range(FRAMES):
                answer = await client.ask("frame", session_id=opened["session_id"], image=BLACK, instruction="go")
                assert answer["type"] == "action", answer
            if close:
                await client.ask("close", session_id=opened["session_id"])

    async def openpi(self) -> None:
        """A session of openpi's wire, which ends with its connection."""
        async with self.socket(self.app, "/", protocol=None) as client:
            await client.hear_data()
            for _ in range(FRAMES):
                client.put(pack({"observation/image": BLACK, "prompt": "go"}))
                assert isinstance(await client.hear_data(), bytes)

    async def play(self, count: int) -> None:
        """So many sessions, of six kinds in turn, a second between them."""
        for number in range(count):
            kinds: list[Callable[[], Any]] = [
                lambda: self.posted(close=True),
                lambda: self.streamed(close=False),
                self.implied,
                lambda: self.streamed(close=True),
                lambda: self.posted(close=False),
                self.openpi,
            ]
            await kinds[number % len(kinds)]()
            self.clock.now_s += 1

    async def after(self) -> str:
        """The metrics, once everybody's time is over: the daemon notices by itself, and so does the policy."""
        self.clock.now_s += SETTINGS.ttl_s + 1
        async with asyncio.timeout(SETTLE_S):
            while await self.here() or self.policy.usage.in_use_bytes:
                await asyncio.sleep(0.01)
        return str((await self.ask("GET", "/metrics")).decode())

    async def here(self) -> int:
        """How many sessions there are."""
        return len(json.loads(await self.ask("GET", "/v1/sessions"))["sessions"])


def gauges(text: str) -> dict[str, str]:
    """Every series of /metrics whose kind is gauge; its process's own aside."""
    names = [name for name in re.findall(r"^# TYPE (\S+) gauge$", text, re.MULTILINE) if name.startswith("stillframe")]
    lines = [line.rsplit(" ", 1) for line in text.splitlines() if line.startswith(tuple(names))]
    return {series: value for series, value in lines if "_created" not in series}


def open_files() -> int:
    """How many descriptors this process has, sockets and pipes among them."""
    return sum(1 for _ in Path("/proc/self/fd").iterdir())


def alive() -> Counter[str]:
    """The objects of our own that should not outlast their session."""
    gc.collect()
    ours = [type(thing) for thing in gc.get_objects() if str(type(thing).__module__).startswith("stillframe")]
    kinds = Counter(kind.__name__ for kind in ours)
    return Counter({kind: kinds[kind] for kind in LASTING if kinds[kind]})


@pytest.fixture
def new_floor(load: Callable[[str], ModuleType]) -> Callable[[Any], Floor]:
    """A web floor over a policy, with a clock that a test moves."""

    def make(policy: Any) -> Floor:
        web, clock = load("web/conftest.py"), ManualClock(100.0)
        desk = web.Desk(policy, WebSettings(sessions=SETTINGS), clock=clock)
        return Floor(desk.app, clock, policy, load("web/streaming/conftest.py").Socket)

    return make


@pytest.fixture
def instant(new_floor: Callable[[Any], Floor], load: Callable[[str], ModuleType]) -> Floor:
    """Over a policy that takes no time."""
    return new_floor(InstantPolicy(load("web/conftest.py").INFO))


@pytest.fixture
def computing(new_floor: Callable[[Any], Floor], load: Callable[[str], ModuleType]) -> Iterator[Floor]:
    """Over the engine, with the small random decoder."""
    engine = Engine(
        load("engine/conftest.py").ToyPolicy(),
        reuse=ReuseSettings(mode="adaptive"),
        queue_frames=8,
        clock=time.perf_counter,
        log=logging.getLogger("soak"),
        on_refresh=lambda _: None,
    )
    engine.warm_up()
    yield new_floor(engine)
    engine.close()


def soak(floor: Floor, count: int) -> None:
    """Play a fifth, look round, play the rest: nothing has grown, nobody is left, every gauge is where it was."""

    async def story() -> None:
        async with asyncio.timeout(WAIT_S), floor.app.router.lifespan_context(floor.app):
            empty = await floor.after()
            await floor.play(count // 5)
            after_some = await floor.after()
            others = alive()  # what tests before this one have left
            held_bytes, files, tasks = tracemalloc.get_traced_memory()[0], open_files(), asyncio.all_tasks()
            await floor.play(count - count // 5)
            busy = await floor.here()
            after_all = await floor.after()
            lasting = alive() - others

            assert 0 < busy <= SETTINGS.most
            assert lasting == Counter()
            assert asyncio.all_tasks() == tasks
            assert gauges(after_some) == gauges(empty)
            assert gauges(after_all) == gauges(empty)
            assert len(after_all.splitlines()) == len(after_some.splitlines())  # no series for a session
            assert open_files() == files
            assert tracemalloc.get_traced_memory()[0] - held_bytes < GROWTH_BYTES

    tracemalloc.start()
    try:
        asyncio.run(story())
    finally:
        tracemalloc.stop()


def test_sixty_sessions(instant: Floor, caplog: pytest.LogCaptureFixture) -> None:
    """The long one below, short: twelve of them, two of each kind, before the others."""
    soak(instant, 60)

    assert caplog.records == []


def test_the_real_engine(computing: Floor, caplog: pytest.LogCaptureFixture) -> None:
    """Thirty sessions leave no slot of the KV pool taken."""
    soak(computing, 30)

    assert caplog.records == []


@pytest.mark.slow
def test_ten_thousand_sessions(instant: Floor, caplog: pytest.LogCaptureFixture) -> None:
    """A third of the sessions over HTTP, a half over streams, the rest by their names; half of them closed."""
    soak(instant, 10_000)

    assert caplog.records == []


@pytest.mark.slow
def test_the_real_engine_for_long(computing: Floor, caplog: pytest.LogCaptureFixture) -> None:
    """Two thousand sessions on the real engine."""
    soak(computing, 2000)

    assert caplog.records == []


def test_the_gone_are_remembered_up_to_a_bound(load: Callable[[str], ModuleType]) -> None:
    """Tombstones of a crowd that came at once: never over their bound, and none is left when their time is over."""
    clock, policy = ManualClock(100.0), InstantPolicy(load("web/conftest.py").INFO)
    watch = Metrics(CollectorRegistry(), drift_budget=0.02).sessions
    roster = SessionRegistry(SETTINGS, lambda: policy, clock, watch)
    remembered = roster._index._tombstones  # nobody else may see them
    for number in range(MOST_TOMBSTONES + 500):
        roster.close(roster.find_or_create(f"r-{number}", owner="robot"))
    most = len(remembered)
    clock.now_s += SETTINGS.ttl_s
    roster.sweep()

    assert (most, len(remembered)) == (MOST_TOMBSTONES, 0)
