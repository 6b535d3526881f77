"""The whole ASGI app in this process, over a policy that echoes what it saw. Knows no socket and no torch."""

from __future__ import annotations

import asyncio
import base64
import io
import logging
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from time import perf_counter

import httpx
import numpy as np
import PIL.Image
import pytest
from prometheus_client import CollectorRegistry

from stillframe.domain import (
    ActionChunk,
    CacheReport,
    HistoryReport,
    KeyframeReason,
    KVUsage,
    Observation,
    PolicyInfo,
    SessionRef,
    Step,
    StepReport,
)
from stillframe.metrics import Metrics
from stillframe.stopwatch import Clock
from stillframe.testing import policy_info
from stillframe.web.app import WebSettings, create_app
from stillframe.web.http.limits import Limits
from stillframe.web.service.lifecycle import Lifecycle
from stillframe_client.wire import encode_array

STATS = {"q01": [-0.05] * 6 + [0.0], "q99": [0.05] * 6 + [1.0], "mask": [True] * 6 + [False]}
INFO = policy_info(family="openvla", norm_stats={"jaco": STATS, "bridge_orig": STATS}, default_unnorm_key="jaco")


SLOT_BYTES, SLOTS = 1000, 64
WHOLE = CacheReport("off", KeyframeReason.STATELESS, 0.0, 0, 20, 0, 0)


def cache_of(session: SessionRef | None) -> CacheReport:
    """First frames are keyframes, the others reuse a half."""
    if session is None:
        return WHOLE
    mode = session.mode or "adaptive"
    if session.seq:
        return CacheReport(mode, None, 0.5, 10, 20, SLOT_BYTES, session.seq, epoch=session.epoch, seq=session.seq)
    reason = KeyframeReason.RESET if session.epoch else session.opening
    return CacheReport(mode, reason, 0.0, 0, 20, SLOT_BYTES, 0, epoch=session.epoch, seq=session.seq)


@dataclass
class EchoPolicy:
    """Answers with (height, width, r, g, b of the first pixel, letters of the instruction, pictures)."""

    info: PolicyInfo = INFO
    ready: bool = True
    error: Exception | None = None
    actions: np.ndarray | None = None  # in place of the echo
    history: HistoryReport | None = None  # of sessions' frames
    seen: list[Observation] = field(default_factory=list)
    sessions: list[SessionRef | None] = field(default_factory=list)  # of the frames that were submitted
    forgotten: list[str] = field(default_factory=list)
    busy_s: float = 0.0
    ages_ms: list[float] = field(default_factory=list)
    started: threading.Event = field(default_factory=threading.Event)
    go_on: threading.Event = field(default_factory=threading.Event)
    thread: ThreadPoolExecutor = field(default_factory=lambda: ThreadPoolExecutor(1))

    def __post_init__(self) -> None:
        self.go_on.set()

    @property
    def usage(self) -> KVUsage:
        """A slot for each session that is not forgotten."""
        sessions = len({session.id for session in self.sessions if session} - set(self.forgotten))
        held, nbytes = (self.history.held, self.history.nbytes) if self.history else (0, 0)
        return KVUsage(sessions * SLOT_BYTES, SLOTS * SLOT_BYTES, sessions, SLOTS, sessions * held, sessions * nbytes)

    def submit(
        self,
        observation: Observation,
        max_age_ms: float,
        session: SessionRef | None = None,
        *,
        share: str = "",  # noqa: ARG002
    ) -> Future[Step]:
        """Answer on another thread, in order."""
        self.ages_ms.append(max_age_ms)
        self.sessions.append(session)
        return self.thread.submit(self.step, observation, session)

    def forget(self, session_id: str) -> None:
        """Remember that it was asked to."""
        self.forgotten.append(session_id)

    def step(self, observation: Observation, session: SessionRef | None = None) -> Step:
        """Wait for `go_on`, then fail with `error` or answer."""
        self.seen.append(observation)
        self.started.set()
        self.go_on.wait(20)
        if self.error is not None:
            raise self.error
        actions = self.echo(observation) if self.actions is None else self.actions
        chunk = ActionChunk(actions, observation.unnorm_key or "jaco")
        history = self.history if session else None
        return Step(chunk, StepReport({"queue": 0.5, "prefill": 2.0}, 2, cache_of(session), history=history))

    def echo(self, observation: Observation) -> np.ndarray:
        """An action that tells what was seen, [1, 7]."""
        first = next(iter(observation.images.values()))
        words = len(observation.instruction)
        return np.array([[*first.shape[:2], *first[0, 0], words, len(observation.images)]], np.float64)

    def close(self) -> None:
        """Let whatever waits go on, and wait for it."""
        self.go_on.set()
        self.thread.shutdown()


@dataclass(repr=False)
class Desk:
    """The app and all that it was given."""

    policy: EchoPolicy
    settings: WebSettings = field(default_factory=WebSettings)
    loaded: bool = True
    registry: CollectorRegistry = field(default_factory=CollectorRegistry)
    clock: Clock = perf_counter

    def __post_init__(self) -> None:
        self.lifecycle = Lifecycle(self.policy if self.loaded else None)
        self.app = create_app(
            self.lifecycle,
            self.settings,
            metrics=Metrics(self.registry, drift_budget=0.02),
            log=logging.getLogger("web-test"),
            clock=self.clock,
        )

    def __repr__(self) -> str:
        return f"Desk({self.policy.info.name})"  # short: hypothesis prints it for every example

    def client(self) -> httpx.AsyncClient:
        """An asynchronous client of the app, for tests with several requests at once."""
        return httpx.AsyncClient(transport=httpx.ASGITransport(self.app), base_url="http://localhost")

    def ask(self, method: str, path: str, **request: object) -> httpx.Response:
        """One request, answered."""

        async def once() -> httpx.Response:
            async with self.client() as client:
                return await client.request(method, path, **request)

        return asyncio.run(once())

    def act(self, fields: object, **headers: str) -> httpx.Response:
        """One posted frame, answered."""
        return self.ask("POST", "/act", json=fields, headers=headers)

    def sample(self, name: str, **labels: str) -> float | None:
        """One series of /metrics."""
        return self.registry.get_sample_value(name, labels)


@pytest.fixture(scope="session")
def new_desk() -> Iterator[Callable[..., Desk]]:
    """Make desks: `new_desk(limits, loaded=False, settings=WebSettings(...), info=...)`."""
    made: list[Desk] = []

    def make(
        limits: Limits | None = None, *, loaded: bool = True, settings: WebSettings | None = None, **policy: object
    ) -> Desk:
        made.append(Desk(EchoPolicy(**policy), settings or WebSettings(limits=limits or Limits()), loaded))
        return made[-1]

    yield make
    for desk in made:
        desk.policy.close()


@pytest.fixture
def desk(new_desk: Callable[..., Desk]) -> Desk:
    """A ready daemon's app with the default limits."""
    return new_desk()


@pytest.fixture(scope="session")
def picture() -> np.ndarray:
    """A picture [12, 16, 3] without two equal pixels."""
    return np.arange(12 * 16 * 3, dtype=np.uint16).astype(np.uint8).reshape(12, 16, 3)


@pytest.fixture(scope="session")
def encoded(picture: np.ndarray) -> Callable[..., str]:
    """Write a picture as base64: `encoded("PNG")`, `encoded("JPEG", quality=90)`, `encoded("PNG", mode="L")`."""

    def encode(format: str, pixels: np.ndarray | None = None, mode: str = "RGB", **options: object) -> str:  # noqa: A002 -- Pillow's word
        sink = io.BytesIO()
        PIL.Image.fromarray(picture if pixels is None else pixels).convert(mode).save(sink, format, **options)
        return base64.b64encode(sink.getvalue()).decode()

    return encode


@pytest.fixture
def frame(picture: np.ndarray) -> dict[str, object]:
    """A frame in OpenVLA's dialect, to be spoilt by the test."""
    return {"image": encode_array(picture), "instruction": "pick up the red cube", "unnorm_key": "jaco"}
