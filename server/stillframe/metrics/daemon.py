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
    RTC_WHYS,
    ConnectionReport,
    KVUsage,
    PassCounts,
    PolicyInfo,
    RecordingReport,
    SlackReport,
    StepReport,
    WatchReport,
)
from stillframe.errors import Flaw, RequestError
from stillframe.metrics.buckets import ACCEPTED_BUCKETS, BATCH_BUCKETS, LATENCY_BUCKETS_S, PASSES_BUCKETS
from stillframe.metrics.collectors import (
    ConnectionCollector,
    LogCollector,
    PassCollector,
    RecordingCollector,
    WatchCollector,
)
from stillframe.metrics.factory import MetricFactory
from stillframe.metrics.reuse import HistoryMetrics, ReuseMetrics
from stillframe.metrics.sessions import SessionMetrics

HELD = "held"  # of a chunk: to the last one


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


class Metrics:
    """The daemon's metrics, in the caller's registry; `drift_budget` is shown beside the drift."""

    def __init__(self, registry: CollectorRegistry, *, drift_budget: float = math.inf):
        self._registry = registry
        self._reuse = ReuseMetrics(registry, drift_budget)
        self._history = HistoryMetrics(registry)
        self.sessions = SessionMetrics(registry)
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
        self._passes = make.histogram(
            "stillframe_passes_per_action", "Decoder passes until an action was complete.", PASSES_BUCKETS
        )
        self._accepted = make.histogram(
            "stillframe_draft_accepted_tokens",
            "Draft tokens that the first pass accepted, by draft mode and by how they were guessed.",
            ACCEPTED_BUCKETS,
            ["draft", "way"],
        )
        self._rtc = make.counter(
            "stillframe_rtc_frames", "Frames whose chunk was to be held to the last one: held, or why not.", ["outcome"]
        )
        for outcome in (HELD, *RTC_WHYS):
            self._rtc.labels(outcome)
        self._batch = make.histogram(
            "stillframe_batch_frames", "Frames of the batch that an answered one was computed in.", BATCH_BUCKETS
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
    def frame(self, route: str) -> Iterator[FrameEnd]:
        """Time one frame; an exception sets its outcome, else the caller does."""
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

    def step(self, report: StepReport) -> None:
        """Record a frame's cost as the engine reports it."""
        for name, duration_ms in report.stages_ms.items():
            self.stage(name, duration_ms)
        self._passes.observe(report.passes)
        self._batch.observe(report.batch)
        if report.draft.mode != "off":
            self._accepted.labels(report.draft.mode, report.draft.way).observe(report.draft.accepted)
        self._reuse.frame(report.cache, report.computed_ms / report.batch)
        if report.rtc is not None:
            self._rtc.labels(report.rtc.why or HELD).inc()
        if report.history is not None:
            self._history.frame(report.history.frame)

    def slack(self, report: SlackReport) -> None:
        """Record an idle refresh, or an audit. Safe on any thread."""
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
        """Everything in Prometheus' text format; what depends on a policy is None while none is loaded."""
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
        return generate_latest(self._registry)


def outcome_of(status: int, code: str = "") -> Outcome:
    """The outcome of a frame that was answered with a problem of HTTP `status`."""
    if code == "superseded":
        return Outcome.SUPERSEDED
    named = {503: Outcome.REFUSED, 504: Outcome.EXPIRED}
    return named.get(status, Outcome.FAILED if status >= 500 else Outcome.REJECTED)
