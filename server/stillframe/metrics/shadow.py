"""Metrics of a second policy that answers frames after the first one: how far apart they are, what that takes.

Knows no session by name, no HTTP and no model. All stay at zero where there is no shadow.
"""

from __future__ import annotations

from prometheus_client import CollectorRegistry

from stillframe.domain import SHADOW_OUTCOMES, ShadowReport
from stillframe.metrics.buckets import DRIFT_BUCKETS, LATENCY_BUCKETS_S
from stillframe.metrics.factory import MetricFactory


class ShadowMetrics:
    """A second policy's answers beside the first's."""

    def __init__(self, registry: CollectorRegistry):
        make = MetricFactory(registry)
        self._drift = make.histogram(
            "stillframe_shadow_drift",
            "Distance of the shadow's answer from the one that was sent: worst dimension, normalised units.",
            DRIFT_BUCKETS,
        )
        self._frames = make.counter(
            "stillframe_shadow_frames",
            "Frames that the shadow took: compared; failed; preempted and put back; skipped for newer ones.",
            ["outcome"],
        )
        self._seconds = make.histogram(
            "stillframe_shadow_seconds", "Idle time that the shadow computed for a frame.", LATENCY_BUCKETS_S
        )
        self._yield_s = make.histogram(
            "stillframe_shadow_yield_seconds",
            "From a frame's arrival until the shadow had stopped for it.",
            LATENCY_BUCKETS_S,
        )
        for outcome in SHADOW_OUTCOMES:
            self._frames.labels(outcome)

    def frame(self, report: ShadowReport) -> None:
        """Record what became of a frame."""
        self._frames.labels(report.outcome).inc()
        if report.outcome != "skipped":
            self._seconds.observe(report.duration_ms / 1000)
        if report.by_action:
            self._drift.observe(max(report.by_action))
        if report.yield_ms is not None:
            self._yield_s.observe(report.yield_ms / 1000)
