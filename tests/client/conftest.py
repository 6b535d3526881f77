"""A real daemon's web floor on a loopback port, over a policy that answers at once. Knows no torch."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest
import uvicorn
from prometheus_client import CollectorRegistry

from stillframe.domain import (
    ActionChunk,
    CacheReport,
    KVUsage,
    Observation,
    PolicyInfo,
    SessionRef,
    Step,
    StepReport,
)
from stillframe.metrics import Metrics
from stillframe.testing import policy_info
from stillframe.testing.policy import cache_report
from stillframe.web.app import WebSettings, create_app
from stillframe.web.http.limits import Limits
from stillframe.web.service.lifecycle import Lifecycle

STATS = {"q01": [-0.05] * 7, "q99": [0.05] * 7, "mask": [True] * 6 + [False]}
INFO = policy_info(
    name="sums",
    family="openvla",
    chunk_horizon=2,
    norm_stats={"jaco": STATS, "bridge_orig": STATS},
    default_unnorm_key="jaco",
)


@dataclass
class SummingPolicy:
    """Answers with thirds of (sum of all pixels, pictures, letters, 0, 0, 0, 1), then with the negative of that."""

    info: PolicyInfo = INFO
    ready: bool = True
    busy_s: float = 0.0
    sessions: list[SessionRef | None] = field(default_factory=list)  # of the frames that were submitted
    begun: int = 0  # of those: how many it has begun to answer; until then a frame whose client is gone is dropped
    go_on: threading.Event = field(default_factory=threading.Event)
    thread: ThreadPoolExecutor = field(default_factory=lambda: ThreadPoolExecutor(1))
    usage: KVUsage = KVUsage(0, 0, 0)  # noqa: RUF009 -- frozen

    def submit(
        self,
        observation: Observation,
        max_age_ms: float,  # noqa: ARG002 -- the protocol's
        session: SessionRef | None = None,
        *,
        share: str = "",  # noqa: ARG002 -- the protocol's
    ) -> Future[Step]:
        """Answer on another thread once `go_on` is set."""
        self.sessions.append(session)
        return self.thread.submit(self.step, observation, cache_report(session))

    def forget(self, session_id: str) -> None:
        """Keep nothing, so forget nothing."""

    def step(self, observation: Observation, cache: CacheReport) -> Step:
        """Add up the pixels."""
        self.begun += 1
        self.go_on.wait(20)
        total = sum(int(picture.sum()) for picture in observation.images.values())
        action = np.array([total, len(observation.images), len(observation.instruction), 0, 0, 0, 1]) / 3
        chunk = ActionChunk(np.stack([action, -action]), observation.unnorm_key or "jaco")
        return Step(chunk, StepReport({"queue": 0.5, "prefill": 2.0}, 1, cache))

    def close(self) -> None:
        """Stop the thread."""
        self.go_on.set()
        self.thread.shutdown()


class Daemon:
    """A running server: its address and what it serves."""

    def __init__(self, house: WebSettings, port: int = 0):
        self.policy = SummingPolicy()
        self.policy.go_on.set()
        self.lifecycle = Lifecycle(self.policy)
        log, metrics = logging.getLogger("daemon"), Metrics(CollectorRegistry(), drift_budget=0.02)
        self.app = create_app(self.lifecycle, house, metrics=metrics, log=log, clock=time.perf_counter)
        options: dict[str, Any] = {"ws_per_message_deflate": False, "timeout_graceful_shutdown": 1}
        config = uvicorn.Config(self.app, host="127.0.0.1", port=port, log_config=None, **options)
        self.server = uvicorn.Server(config)
        self.thread = threading.Thread(target=self.server.run)
        self.thread.start()
        while not self.server.started and self.thread.is_alive():
            time.sleep(0.005)
        self.port = self.server.servers[0].sockets[0].getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"

    def cut(self) -> None:
        """Break every connection, as a network does."""
        done = threading.Event()

        def abort() -> None:
            for connection in list(self.server.server_state.connections):
                connection.transport.abort()  # type: ignore[union-attr] -- uvicorn types it as what may be None
            done.set()

        self.server.servers[0].get_loop().call_soon_threadsafe(abort)
        done.wait(20)

    def until_asked(self, frames: int) -> None:
        """Wait until the policy has begun to answer that many frames."""
        for _ in range(2000):
            if self.policy.begun >= frames:
                return
            time.sleep(0.01)
        raise AssertionError(f"{self.policy.begun} frames were begun, not {frames}")

    def stop(self) -> None:
        """Answer what waits, and leave."""
        self.policy.close()
        self.server.should_exit = True
        self.thread.join(60)


@pytest.fixture
def new_daemon() -> Iterator[Callable[..., Daemon]]:
    """Start daemons: `new_daemon(House(...), port=...)`; each stops with the test, if it has not before."""
    daemons: list[Daemon] = []

    def start(house: WebSettings | None = None, port: int = 0) -> Daemon:
        daemons.append(Daemon(house or WebSettings(), port))
        return daemons[-1]

    yield start
    for daemon in daemons:
        daemon.stop()


@pytest.fixture
def daemon(new_daemon: Callable[..., Daemon]) -> Daemon:
    """A daemon on a free loopback port, ready, with bodies of up to 1 MB."""
    return new_daemon(WebSettings(limits=Limits(max_body_bytes=1_000_000)))


@pytest.fixture
def picture() -> np.ndarray:
    """A smooth picture [24, 32, 3]."""
    return np.add.outer(np.arange(24), np.arange(32)).astype(np.uint8)[..., None].repeat(3, axis=2)
