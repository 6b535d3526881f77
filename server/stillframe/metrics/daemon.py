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

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, Info, generate_latest

from stillframe.domain import (
    ConnectionReport,
    KVUsage,
    PassCounts,
    PolicyInfo,
    RecordingReport,
    SlackReport,
    StepReport,
)
from stillframe.errors import Flaw, RequestError
from stillframe.metrics.buckets import ACCEPTED_BUCKETS, BATCH_BUCKETS, LATENCY_BUCKETS_S, PASSES_BUCKETS
from stillframe.metrics.connections import ConnectionMetrics
from stillframe.metrics.logs import LogMetrics
from stillframe.metrics.passes import PassMetrics
from stillframe.metrics.recording import RecordingMetrics
from stillframe.metrics.reuse import HistoryMetrics, ReuseMetrics
from stillframe.metrics.sessions import SessionMetrics


class Outcome(StrEnum):
    """How a frame ended."""

    ANSWERED = "answered"
    LATE = "late"  # answered, but after its max_age_ms
    REJECTED = "rejected"  # the client's to mend: 4xx
    REFUSED = "refused"  # not now: 503
    EXPIRED = "expired"  # too old: 504
    FAILED = "failed"  # ours to mend: 500
    ABANDONED = "abandoned"  # nobody waits for the answer any more
    SUPERSEDED = "superseded"  # a newer frame took its place


@dataclass
class FrameEnd:
    """How a frame ends, as far as is known."""

    outcome: Outcome = Outcome.ANSWERED


class Metrics:
    """The daemon's metrics in one registry, which belongs to the caller; `drift_budget` is shown beside the drift."""

    def __init__(self, registry: CollectorRegistry, *, drift_budget: float = math.inf):
        self._registry = registry
        self._reuse = ReuseMetrics(registry, drift_budget)
        self._history = HistoryMetrics(registry)
        self.sessions = SessionMetrics(registry)
        self._frame_s = Histogram(
            "stillframe_frame_duration_seconds",
            "From a frame's arrival to its answer, by route and outcome.",
            ["route", "outcome"],
            buckets=LATENCY_BUCKETS_S,
            registry=registry,
        )
        self._stage_s = Histogram(
            "stillframe_stage_duration_seconds",
            "Time that answered frames spent in each stage of their walk.",
            ["stage"],
            buckets=LATENCY_BUCKETS_S,
            registry=registry,
        )
        self._passes = Histogram(
            "stillframe_passes_per_action",
            "Decoder passes until an action was complete.",
            buckets=PASSES_BUCKETS,
            registry=registry,
        )
        self._accepted = Histogram(
            "stillframe_draft_accepted_tokens",
            "Guessed action tokens that the first pass found right, from the first on; by how they were guessed.",
            ["draft", "way"],
            buckets=ACCEPTED_BUCKETS,
            registry=registry,
        )
        self._batch = Histogram(
            "stillframe_batch_frames",
            "Frames that an answered one was computed with, side by side, itself among them.",
            buckets=BATCH_BUCKETS,
            registry=registry,
        )
        self._frames = Counter("stillframe_frames", "Frames by how they ended.", ["outcome"], registry=registry)
        self._rejected = Counter(
            "stillframe_rejected", "Frames answered with a problem, by its code.", ["code"], registry=registry
        )
        self._refused = Counter(
            "stillframe_refused_actions",
            "What the policy said and was no action, in answers and in pauses, by the flaw; none is passed on.",
            ["reason"],
            registry=registry,
        )
        self._queue_depth = Gauge(
            "stillframe_queue_depth", "Frames handed to the policy and not answered yet.", registry=registry
        )
        self._stuck = Counter(
            "stillframe_watchdog_fired", "Times that the device was at one frame for too long.", registry=registry
        )
        self._connections = Gauge("stillframe_connections", "WebSockets that are open.", registry=registry)
        self._ready = Gauge("stillframe_ready", "1 while the daemon takes frames, else 0.", registry=registry)
        self._build = Info(
            "stillframe_build", "What runs here: version, model, family, dtype, device.", registry=registry
        )
        for outcome in Outcome:
            self._frames.labels(outcome.value)  # so that every series starts at 0 and rates are right from the start
        for flaw in Flaw:
            self._refused.labels(flaw.value)

    @contextmanager
    def frame(self, route: str) -> Iterator[FrameEnd]:
        """Time one frame; what it raises decides its outcome, else the caller does."""
        started_s = perf_counter()
        end = FrameEnd()
        try:
            yield end
        except RequestError as error:
            end.outcome = outcome_of(error.status, error.code)
            if end.outcome is not Outcome.SUPERSEDED:
                self._rejected.labels(error.code).inc()
            raise
        except Exception:
            end.outcome = Outcome.FAILED
            self._rejected.labels("internal").inc()
            raise
        except BaseException:
            end.outcome = Outcome.ABANDONED
            raise
        finally:
            self._frames.labels(end.outcome.value).inc()
            self._frame_s.labels(route, end.outcome.value).observe(perf_counter() - started_s)

    def queued(self, future: Future[Any]) -> None:
        """Count a frame as waiting until its future is done, however it ends."""
        self._queue_depth.inc()
        future.add_done_callback(lambda _: self._queue_depth.dec())

    def refused(self, flaw: Flaw) -> None:
        """Count what the policy said and was no action. Safe on any thread."""
        self._refused.labels(flaw.value).inc()

    def watchdog_fired(self) -> None:
        """Count a device that is stuck."""
        self._stuck.inc()

    def stage(self, name: str, duration_ms: float) -> None:
        """Record the time of a stage outside the engine."""
        self._stage_s.labels(name).observe(duration_ms / 1000)

    def step(self, report: StepReport) -> None:
        """Record what the engine says that a frame cost."""
        for name, duration_ms in report.stages_ms.items():
            self.stage(name, duration_ms)
        self._passes.observe(report.passes)
        self._batch.observe(report.batch)
        if report.draft.mode != "off":
            self._accepted.labels(report.draft.mode, report.draft.way).observe(report.draft.accepted)
        self._reuse.frame(report.cache)
        if report.history is not None:
            self._history.frame(report.history.frame)

    def slack(self, report: SlackReport) -> None:
        """Record what the engine did with a pause. Safe on any thread."""
        self._reuse.slack(report)

    def log_lines(self, lost: Callable[[], int]) -> None:
        """From now on, show how many lines of the log `lost` says were lost."""
        self._registry.register(LogMetrics(lost))

    def connected(self, read: Callable[[], ConnectionReport]) -> None:
        """From now on, show what `read` says of connections."""
        self._registry.register(ConnectionMetrics(read))

    def recording(self, read: Callable[[], RecordingReport]) -> None:
        """From now on, show what `read` says of what is recorded."""
        self._registry.register(RecordingMetrics(read))

    def passes(self, read: Callable[[], PassCounts | None]) -> None:
        """From now on, show what `read` says of a GPU's passes; nothing while that is None."""
        self._registry.register(PassMetrics(read))

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
    ) -> bytes:
        """Write everything in Prometheus' text format; what hangs on a policy is None while none is loaded."""
        self._ready.set(ready)
        self._connections.set(connections)
        self.sessions.here(sessions or {})
        if sessions_limit is not None:
            self.sessions.limit(sessions_limit)
        if usage is not None:
            self._reuse.usage(usage)
            self._history.usage(usage)
        if info is not None:
            model = {"model": info.name, "family": info.family, "dtype": info.dtype, "device": info.device}
            self._build.info({"version": version, **model})
        return generate_latest(self._registry)


def outcome_of(status: int, code: str = "") -> Outcome:
    """The outcome of a frame that was answered with a problem of HTTP `status`."""
    if code == "superseded":
        return Outcome.SUPERSEDED
    named = {503: Outcome.REFUSED, 504: Outcome.EXPIRED}
    return named.get(status, Outcome.FAILED if status >= 500 else Outcome.REJECTED)
