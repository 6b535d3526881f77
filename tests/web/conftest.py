"""The whole ASGI app in this process, over a policy that echoes what it saw. Knows no socket and no torch."""

from __future__ import annotations

import asyncio
import base64
import io
import logging
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from time import perf_counter

import httpx
import numpy as np
import PIL.Image
import pytest
from prometheus_client import CollectorRegistry

from stillframe import testing
from stillframe.domain import (
    HistoryReport,
    KVUsage,
    Observation,
    PolicyInfo,
    SessionRef,
    Step,
)
from stillframe.metrics import Metrics
from stillframe.stopwatch import Clock
from stillframe.testing import policy_info
from stillframe.tracing import AnsweredFrame, FrameTracer
from stillframe.web.app import WebSettings, create_app
from stillframe.web.http.limits import Limits
from stillframe.web.service.lifecycle import Lifecycle
from stillframe_client.wire import encode_array

STATS = {"q01": [-0.05] * 6 + [0.0], "q99": [0.05] * 6 + [1.0], "mask": [True] * 6 + [False]}
INFO = policy_info(family="openvla", norm_stats={"jaco": STATS, "bridge_orig": STATS}, default_unnorm_key="jaco")


@dataclass
class EchoPolicy(testing.EchoPolicy):
    """The one of stillframe.testing, which may keep older frames of its sessions as well."""

    info: PolicyInfo = INFO
    history: HistoryReport | None = None  # of sessions' frames

    @property
    def usage(self) -> KVUsage:
        """Each session that is not forgotten holds its older frames beside its slot."""
        usage = super().usage
        held, nbytes = (self.history.held, self.history.nbytes) if self.history else (0, 0)
        return replace(usage, history_chunks=usage.sessions * held, history_bytes=usage.sessions * nbytes)

    def step(self, observation: Observation, session: SessionRef | None = None) -> Step:
        """Answer as the other does, and report what is kept of older frames."""
        step = super().step(observation, session)
        return replace(step, report=replace(step.report, history=self.history if session else None))


@dataclass
class KeptTrace:
    """What one frame's trace was told."""

    route: str
    headers: Mapping[str, str]
    request_id: str
    age_ms: float
    frame: AnsweredFrame | None = None
    ended: list[tuple[str, str | None]] = field(default_factory=list)
    exemplar: Mapping[str, str] = field(default_factory=lambda: {"trace_id": "c0ffee"})

    def answered(self, frame: AnsweredFrame) -> None:
        """Keep it."""
        assert self.ended == []
        self.frame = frame

    def end(self, outcome: str, code: str | None) -> None:
        """Keep it."""
        self.ended.append((outcome, code))


@dataclass
class KeepingTracer:
    """Samples all frames, or none."""

    samples: bool = True
    traces: list[KeptTrace] = field(default_factory=list)

    def begin(self, route: str, headers: Mapping[str, str], request_id: str, age_ms: float = 0.0) -> KeptTrace | None:
        """Keep what is said."""
        if not self.samples:
            return None
        self.traces.append(KeptTrace(route, headers, request_id, age_ms))
        return self.traces[-1]

    def close(self) -> None:
        """Nothing is sent."""


@dataclass(repr=False)
class Desk:
    """The app and all that it was given."""

    policy: EchoPolicy
    settings: WebSettings = field(default_factory=WebSettings)
    loaded: bool = True
    registry: CollectorRegistry = field(default_factory=CollectorRegistry)
    clock: Clock = perf_counter
    tracer: FrameTracer | None = None

    def __post_init__(self) -> None:
        self.lifecycle = Lifecycle(self.policy if self.loaded else None)
        self.app = create_app(
            self.lifecycle,
            self.settings,
            metrics=Metrics(self.registry, drift_budget=0.02),
            log=logging.getLogger("web-test"),
            clock=self.clock,
            tracer=self.tracer,
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
    made: list[EchoPolicy] = []

    def make(
        limits: Limits | None = None,
        *,
        loaded: bool = True,
        settings: WebSettings | None = None,
        tracer: FrameTracer | None = None,
        **policy: object,
    ) -> Desk:
        house = settings or WebSettings(limits=limits or Limits())
        made.append(EchoPolicy(**policy))
        return Desk(made[-1], house, loaded, tracer=tracer)

    yield make
    for each in made:
        each.close()


@pytest.fixture
def tracer() -> KeepingTracer:
    """One that samples all frames, until it is told otherwise."""
    return KeepingTracer()


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
