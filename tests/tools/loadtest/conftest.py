"""A daemon's web floor on a real socket, over a policy that answers as soon as it may. Knows no torch."""

from __future__ import annotations

import logging
import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field

import numpy as np
import pytest
import uvicorn
from prometheus_client import CollectorRegistry

from stillframe.daemon.shutdown import DrainingServer
from stillframe.domain import ActionChunk, CacheReport, KVUsage, Observation, PolicyInfo, SessionRef, Step, StepReport
from stillframe.metrics import Metrics
from stillframe.testing import policy_info
from stillframe.tools.loadtest.load import Load
from stillframe.tools.loadtest.senders import SenderStats
from stillframe.web.app import WebSettings, create_app
from stillframe.web.service.lifecycle import Lifecycle

PATIENCE_S = 60.0
STATS = {"q01": [-0.05] * 7, "q99": [0.05] * 7, "mask": [True] * 7}
INFO = policy_info(
    name="quick", cameras=("front", "wrist"), norm_stats={"jaco": STATS, "bridge": STATS}, default_unnorm_key=None
)


@dataclass
class QuickPolicy:
    """One thread, first come first served; each frame waits for `go_on`."""

    info: PolicyInfo = INFO
    ready: bool = True
    busy_s: float = 0.0
    error: Exception | None = None
    taken: list[SessionRef] = field(default_factory=list)  # of frames that were submitted
    computed: list[SessionRef] = field(default_factory=list)
    ages_ms: list[float] = field(default_factory=list)
    forgotten: list[str] = field(default_factory=list)
    go_on: threading.Event = field(default_factory=threading.Event)
    on_take: Callable[[QuickPolicy], None] = lambda _: None
    thread: ThreadPoolExecutor = field(default_factory=lambda: ThreadPoolExecutor(1))

    def __post_init__(self) -> None:
        self.go_on.set()

    @property
    def usage(self) -> KVUsage:
        """Room for as many sessions as a test may have."""
        return KVUsage(0, 0, 0, slots=64)

    def submit(
        self,
        _: Observation,
        max_age_ms: float,
        session: SessionRef | None = None,
        *,
        share: str = "",  # noqa: ARG002
    ) -> Future[Step]:
        """Answer on the thread."""
        self.ages_ms.append(max_age_ms)
        assert session is not None
        self.taken.append(session)
        self.on_take(self)
        return self.thread.submit(self._step, session)

    def _step(self, session: SessionRef) -> Step:
        assert self.go_on.wait(PATIENCE_S)
        self.computed.append(session)
        if self.error is not None:
            raise self.error
        cache = CacheReport("adaptive", None, 0.5, 10, 20, 1000, 1, epoch=session.epoch, seq=session.seq)
        return Step(ActionChunk(np.zeros((1, 7)), "jaco"), StepReport({"queue": 0.1, "prefill": 0.1}, 2, cache))

    def forget(self, session_id: str) -> None:
        """Remember that it was asked to."""
        self.forgotten.append(session_id)

    def close(self) -> None:
        """Let whatever waits go on."""
        self.go_on.set()
        self.thread.shutdown()


@dataclass
class Daemon:
    """What serves, and where."""

    policy: QuickPolicy
    server: DrainingServer
    registry: CollectorRegistry
    url: str

    def refused(self, code: str) -> float:
        """How many frames were answered with this problem."""
        return self.registry.get_sample_value("stillframe_rejected_total", {"code": code}) or 0.0

    def comes_true(self, holds: Callable[[], bool]) -> bool:
        """Whether it does, before patience is at its end."""
        return _comes_true(holds)

    def stop(self) -> None:
        """As SIGTERM does. Any thread."""
        self.server.handle_exit(signal.SIGTERM, None)


@pytest.fixture
def daemon(request: pytest.FixtureRequest) -> Iterator[Daemon]:
    """A ready one. Give it a rate of frames, or sessions in which more may wait, by `indirect` parameters."""
    policy = QuickPolicy()
    lifecycle, log = Lifecycle(policy), logging.getLogger("loadtest-test")
    house = WebSettings(**getattr(request, "param", {}))
    registry = CollectorRegistry()
    metrics = Metrics(registry, drift_budget=0.02)
    app = create_app(lifecycle, house, metrics=metrics, log=log, clock=time.perf_counter)
    config = uvicorn.Config(app, port=0, log_config=None, ws="websockets-sansio", timeout_graceful_shutdown=1)
    server = DrainingServer(config, lifecycle, PATIENCE_S)
    thread = threading.Thread(target=server.run)
    thread.start()
    assert _comes_true(lambda: server.started)
    host, port = server.servers[0].sockets[0].getsockname()
    yield Daemon(policy, server, registry, f"http://{host}:{port}")
    policy.go_on.set()
    server.should_exit = True
    thread.join(PATIENCE_S)
    policy.close()


def _comes_true(holds: Callable[[], bool]) -> bool:
    give_up_s = time.monotonic() + PATIENCE_S
    while not (held := holds()) and time.monotonic() < give_up_s:
        time.sleep(0.01)
    return held


@dataclass
class Silent:
    """A Reporter that remembers."""

    loads: list[Load] = field(default_factory=list)
    looks: int = 0
    on_look: Callable[[], None] = lambda: None

    def begin(self, load: Load) -> None:
        """A load begins."""
        self.loads.append(load)

    def look(self, robots: Sequence[SenderStats]) -> None:
        """How it stands."""
        assert len(robots) == self.loads[-1].robots
        self.looks += 1
        self.on_look()


@pytest.fixture
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Robots that skip no frame, however late the answers are, and wait for all: a slow machine changes no count."""
    monkeypatch.setattr("stillframe.tools.loadtest.senders.MAX_IN_FLIGHT", 64)
    monkeypatch.setattr("stillframe.tools.loadtest.run.LAST_ANSWERS_S", PATIENCE_S)


@pytest.fixture
def silent() -> Silent:
    """Nobody sees it."""
    return Silent()
