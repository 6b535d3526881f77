"""A real daemon's web floor on a loopback port, over a policy that answers at once. Knows no torch."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field

import numpy as np
import pytest
import uvicorn
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
from stillframe.metrics import Metrics
from stillframe.web.app import create_app
from stillframe.web.lifecycle import Lifecycle
from stillframe.web.limits import Limits

STATS = {"q01": [-0.05] * 7, "q99": [0.05] * 7, "mask": [True] * 6 + [False]}
INFO = PolicyInfo(
    name="sums",
    family="openvla",
    parameters=7,
    dtype="float32",
    device="cpu",
    cameras=("front",),
    image_size=(224, 224),
    action_names=("dx", "dy", "dz", "droll", "dpitch", "dyaw", "gripper"),
    gripper="1 = open, 0 = closed",
    chunk_horizon=2,
    norm_stats={"jaco": STATS, "bridge_orig": STATS},
    default_unnorm_key="jaco",
)


@dataclass
class SummingPolicy:
    """Answers with thirds of (sum of all pixels, pictures, letters, 0, 0, 0, 1), then with the negative of that."""

    info: PolicyInfo = INFO
    ready: bool = True
    sessions: list[SessionRef | None] = field(default_factory=list)  # of the frames that were submitted
    epochs: dict[str, int] = field(default_factory=dict)
    go_on: threading.Event = field(default_factory=threading.Event)
    thread: ThreadPoolExecutor = field(default_factory=lambda: ThreadPoolExecutor(1))

    usage: KVUsage = KVUsage(0, 0, 0)  # noqa: RUF009 -- frozen

    def submit(
        self,
        observation: Observation,
        max_age_ms: float,  # noqa: ARG002 -- the protocol's
        session: SessionRef | None = None,
    ) -> Future[Step]:
        """Answer on another thread once `go_on` is set."""
        self.sessions.append(session)
        return self.thread.submit(self.step, observation, self.report(session))

    def report(self, session: SessionRef | None) -> CacheReport:
        """A session's frames after its first reuse a half."""
        if session is None:
            return CacheReport("off", KeyframeReason.STATELESS, 0.0, 0, 20, 0, 0)
        seq = sum(known is not None and known.id == session.id for known in self.sessions) - 1
        reason, reused = (None, 10) if seq else (KeyframeReason.FIRST_FRAME, 0)
        epoch = self.epochs.setdefault(session.id, 0)
        return CacheReport(session.mode or "adaptive", reason, reused / 20, reused, 20, 1000, seq, epoch=epoch, seq=seq)

    def reset(self, session_id: str) -> int:
        """Count the session's episodes."""
        self.epochs[session_id] = self.epochs.get(session_id, -1) + 1
        return self.epochs[session_id]

    def step(self, observation: Observation, cache: CacheReport) -> Step:
        """Add up the pixels."""
        self.go_on.wait(20)
        total = sum(int(picture.sum()) for picture in observation.images.values())
        action = np.array([total, len(observation.images), len(observation.instruction), 0, 0, 0, 1]) / 3
        chunk = ActionChunk(np.stack([action, -action]), observation.unnorm_key or "jaco")
        return Step(chunk, StepReport({"queue": 0.5, "prefill": 2.0}, 1, cache))

    def close(self) -> None:
        """Stop the thread."""
        self.go_on.set()
        self.thread.shutdown()


@dataclass
class Daemon:
    """A running server: its address and what it serves."""

    url: str
    policy: SummingPolicy
    lifecycle: Lifecycle
    limits: Limits


@pytest.fixture
def daemon() -> Iterator[Daemon]:
    """A daemon on a free loopback port, ready, with bodies of up to 1 MB."""
    policy = SummingPolicy()
    policy.go_on.set()
    lifecycle = Lifecycle(policy)
    limits = Limits(max_body_bytes=1_000_000)
    app = create_app(lifecycle, limits=limits, metrics=Metrics(CollectorRegistry()), log=logging.getLogger("daemon"))
    server = uvicorn.Server(uvicorn.Config(app, host="127.0.0.1", port=0, ws="none", log_config=None))
    thread = threading.Thread(target=server.run)
    thread.start()
    while not server.started and thread.is_alive():
        time.sleep(0.005)
    port = server.servers[0].sockets[0].getsockname()[1]
    yield Daemon(f"http://127.0.0.1:{port}", policy, lifecycle, limits)
    policy.close()
    server.should_exit = True
    thread.join(20)


@pytest.fixture
def picture() -> np.ndarray:
    """A smooth picture [24, 32, 3]."""
    return np.add.outer(np.arange(24), np.arange(32)).astype(np.uint8)[..., None].repeat(3, axis=2)
