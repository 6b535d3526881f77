"""Counts and times what the daemon does, for Prometheus.

Knows no HTTP and no model. Labels are bounded: never a session, a robot or a client's words.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass
from enum import StrEnum
from time import perf_counter
from typing import Any

from prometheus_client import CollectorRegistry, Info, generate_latest

from stillframe.domain import (
    ConnectionReport,
    GpuMemory,
    KVUsage,
    PassCounts,
    PolicyInfo,
    RecordingReport,
    SlackReport,
    StepReport,
    WatchReport,
)
from stillframe.errors import Flaw, RequestError
from stillframe.metrics.buckets import LATENCY_BUCKETS_S
from stillframe.metrics.collectors import (
    ConnectionCollector,
    GpuMemoryCollector,
    LogCollector,
    PassCollector,
    RecordingCollector,
    WatchCollector,
)
from stillframe.metrics.device import DeviceMetrics
from stillframe.metrics.factory import MetricFactory
from stillframe.metrics.reuse import HistoryMetrics, ReuseMetrics
from stillframe.metrics.sessions import SessionMetrics
from stillframe.metrics.shadow import ShadowMetrics
from stillframe.tracing import FrameTrace

Encoder = Callable[[CollectorRegistry], bytes]
INTERNAL = "internal"  # the code of what is not the client's fault


class Outcome(StrEnum):
    """How a frame ended."""

    ANSWERED = "answered"
    LATE = "late"  # answered, but after its max_age_ms
    REJECTED = "rejected"  # the client's fault: 4xx
    REFUSED = "refused"  # not accepted now: 503
    EXPIRED = "expired"  # too old: 504
    FAILED = "failed"  # the daemon's fault: 500
    ABANDONED = "abandoned"  # the client stopped waiting
    SUPERSEDED = "superseded"  # replaced by a newer frame


@dataclass
class FrameEnd:
    """A frame's outcome, to be set before it ends."""

    outcome: Outcome = Outcome.ANSWERED
    code: str | None = None  # of its problem
    trace: FrameTrace | None = None  # None: it is not traced


class Metrics:
    """The daemon's metrics, in the caller's registry; `drift_budget` is shown beside the drift."""

    def __init__(self, registry: CollectorRegistry, *, drift_budget: float = math.inf):
        self._registry = registry
        self._device = DeviceMetrics(registry)
        self._reuse = ReuseMetrics(registry, drift_budget)
        self._history = HistoryMetrics(registry)
        self.sessions = SessionMetrics(registry)
        self.shadow = ShadowMetrics(registry)
        make = MetricFactory(registry)
        self._frame_s = make.histogram(
            "stillframe_frame_duration_seconds",
            "From a frame's arrival to its answer, by route and outcome.",
            LATENCY_BUCKETS_S,
            ["route", "outcome"],
        )
        self._stage_s = make.histogram(
            "stillframe_stage_duration_seconds",
            "Time that answered frames spent in each stage.",
            LATENCY_BUCKETS_S,
            ["stage"],
        )
        self._frames = make.counter("stillframe_frames", "Frames by how they ended.", ["outcome"])
        self._rejected = make.counter("stillframe_rejected", "Frames answered with a problem, by its code.", ["code"])
        self._refused = make.counter(
            "stillframe_refused_actions",
            "Policy outputs that were no action, in answers and in refreshes, by the flaw; none is passed on.",
            ["reason"],
        )
        self._queue_depth = make.gauge("stillframe_queue_depth", "Frames handed to the policy and not answered yet.")
        self._stuck = make.counter("stillframe_watchdog_fired", "Times that the device took too long over one frame.")
        self._connections = make.gauge("stillframe_connections", "WebSockets that are open.")
        self._ready = make.gauge("stillframe_ready", "1 while the daemon takes frames, else 0.")
        self._build = Info(
            "stillframe_build", "What runs here: version, model, family, dtype, device.", registry=registry
        )
        for outcome in Outcome:
            self._frames.labels(outcome.value)  # so that every series starts at 0 and rates are right from the start
        for flaw in Flaw:
            self._refused.labels(flaw.value)

    @contextmanager
    def frame(self, route: str, trace: FrameTrace | None = None) -> Iterator[FrameEnd]:
        """Time one frame, and end its trace; an exception sets its outcome, else the caller does."""
        started_s = perf_counter()
        end = FrameEnd(trace=trace)
        try:
            yield end
        except RequestError as error:
            end.outcome, end.code = outcome_of(error.status, error.code), error.code
            if end.outcome is not Outcome.SUPERSEDED:
                self._rejected.labels(error.code).inc()
            raise
        except Exception:
            end.outcome, end.code = Outcome.FAILED, INTERNAL
            self._rejected.labels(INTERNAL).inc()
            raise
        except BaseException:
            end.outcome = Outcome.ABANDONED
            raise
        finally:
            self._frames.labels(end.outcome.value).inc()
            exemplar = None if trace is None else dict(trace.exemplar)
            self._frame_s.labels(route, end.outcome.value).observe(perf_counter() - started_s, exemplar)
            if trace is not None:
                trace.end(end.outcome.value, end.code)

    def queued(self, future: Future[Any]) -> None:
        """Count a frame as queued until its future is done."""
        self._queue_depth.inc()
        future.add_done_callback(lambda _: self._queue_depth.dec())

    def refused(self, flaw: Flaw) -> None:
        """Count a policy output that was no action. Safe on any thread."""
        self._refused.labels(flaw.value).inc()

    def watchdog_fired(self) -> None:
        """Count a stuck device."""
        self._stuck.inc()

    def stage(self, name: str, duration_ms: float) -> None:
        """Record the time of a stage outside the engine."""
        self._stage_s.labels(name).observe(duration_ms / 1000)

    def step(self, report: StepReport, *, actions_left: bool = False) -> None:
        """Record a frame's cost as the engine reports it. `actions_left`: its robot said that it had some to play."""
        for name, duration_ms in report.stages_ms.items():
            self.stage(name, duration_ms)
        self._device.frame(report, actions_left=actions_left)
        self._reuse.frame(report.cache)
        if report.history is not None:
            self._history.frame(report.history.frame)

    def slack(self, report: SlackReport) -> None:
        """Record an idle refresh, or an audit. Safe on any thread."""
        self._device.refresh(report)
        self._reuse.slack(report)

    def log_lines(self, lost: Callable[[], int]) -> None:
        """Export how many log lines were lost, as `lost` counts them."""
        self._registry.register(LogCollector(lost))

    def connected(self, read: Callable[[], ConnectionReport]) -> None:
        """Export the report of connections."""
        self._registry.register(ConnectionCollector(read))

    def watched(self, read: Callable[[], WatchReport]) -> None:
        """Export the report of browsers that watch."""
        self._registry.register(WatchCollector(read))

    def recording(self, read: Callable[[], RecordingReport]) -> None:
        """Export the report of what is recorded."""
        self._registry.register(RecordingCollector(read))

    def passes(self, read: Callable[[], PassCounts | None]) -> None:
        """Export a GPU's pass counts; nothing while `read` returns None."""
        self._registry.register(PassCollector(read))

    def gpu_memory(self, read: Callable[[], GpuMemory | None]) -> None:
        """Export a GPU's memory; nothing while `read` returns None. It is asked at a scrape only."""
        self._registry.register(GpuMemoryCollector(read))

    def exposition(
        self,
        *,
        version: str,
        ready: bool,
        info: PolicyInfo | None = None,
        usage: KVUsage | None = None,
        sessions: Mapping[str, int] | None = None,
        sessions_limit: int | None = None,
        connections: int = 0,
        encode: Encoder = generate_latest,
    ) -> bytes:
        """Everything, in Prometheus' text format unless `encode` writes another.

        What depends on a policy is None while none is loaded.
        """
        self._ready.set(ready)
        self._connections.set(connections)
        self.sessions.set_counts(sessions or {})
        if sessions_limit is not None:
            self.sessions.set_limit(sessions_limit)
        if usage is not None:
            self._reuse.usage(usage)
            self._history.usage(usage)
        if info is not None:
            model = {"model": info.name, "family": info.family, "dtype": info.dtype, "device": info.device}
            self._build.info({"version": version, **model})
        return encode(self._registry)


def outcome_of(status: int, code: str = "") -> Outcome:
    """The outcome of a frame that was answered with a problem of HTTP `status`."""
    if code == "superseded":
        return Outcome.SUPERSEDED
    named = {503: Outcome.REFUSED, 504: Outcome.EXPIRED}
    return named.get(status, Outcome.FAILED if status >= 500 else Outcome.REJECTED)
