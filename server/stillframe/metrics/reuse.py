"""Counts what sessions reuse, what that does to their actions, and what it takes in memory and in pauses.

Knows no session by name, no HTTP and no model.
"""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from stillframe.domain import REUSE_MODES, CacheReport, KeyframeReason, KVUsage, Scored, SlackReport
from stillframe.metrics.buckets import AGE_BUCKETS, DRIFT_BUCKETS, LATENCY_BUCKETS_S, RATIO_BUCKETS, UTILITY_BUCKETS


class ReuseMetrics:
    """What sessions reuse, what that does to their actions, what it takes in memory and in pauses."""

    def __init__(self, registry: CollectorRegistry, drift_budget: float):
        self._ratio = Histogram(
            "stillframe_reuse_ratio",
            "Share of a frame's token-layers that it reused; 0 for a keyframe.",
            ["mode"],
            buckets=RATIO_BUCKETS,
            registry=registry,
        )
        self._keyframes = Counter(
            "stillframe_keyframes", "Frames computed whole, by the reason.", ["reason"], registry=registry
        )
        self._age_frames = Histogram(
            "stillframe_reused_age_frames",
            "Age of the oldest token that a delta frame reused, in frames.",
            buckets=AGE_BUCKETS,
            registry=registry,
        )
        self._drift = Histogram(
            "stillframe_drift",
            "Distance of an answer from a dense pass on its frame: worst dimension, normalised units.",
            buckets=DRIFT_BUCKETS,
            registry=registry,
        )
        self._budget = Gauge("stillframe_drift_budget", "Drift that an answer may have.", registry=registry)
        self._slack_s = Histogram(
            "stillframe_slack_seconds",
            "Time of the dense passes between frames, those that gave way included.",
            buckets=LATENCY_BUCKETS_S,
            registry=registry,
        )
        self._yield_s = Histogram(
            "stillframe_slack_yield_seconds",
            "From a frame's entry until the dense pass under way had given way to it.",
            buckets=LATENCY_BUCKETS_S,
            registry=registry,
        )
        self._in_use = Gauge("stillframe_kv_in_use_bytes", "KV memory that sessions hold.", registry=registry)
        self._limit = Gauge("stillframe_kv_budget_bytes", "KV memory that sessions may hold.", registry=registry)
        self._sessions = Gauge("stillframe_kv_sessions", "Sessions that hold KV memory.", registry=registry)
        self._budget.set(drift_budget)
        for mode in REUSE_MODES:
            self._ratio.labels(mode)
        for reason in KeyframeReason:
            self._keyframes.labels(reason.value)

    def frame(self, cache: CacheReport) -> None:
        """Record what one frame reused."""
        self._ratio.labels(cache.mode).observe(cache.reuse_ratio)
        if cache.keyframe_reason is None:
            self._age_frames.observe(cache.age_max)
        else:
            self._keyframes.labels(cache.keyframe_reason.value).inc()

    def slack(self, report: SlackReport) -> None:
        """Record what the engine did with a pause."""
        self._slack_s.observe(report.duration_ms / 1000)
        if report.drift is not None:
            self._drift.observe(report.drift)
        if report.yield_ms is not None:
            self._yield_s.observe(report.yield_ms / 1000)

    def usage(self, usage: KVUsage) -> None:
        """Say how full the KV pool is now."""
        self._in_use.set(usage.in_use_bytes)
        self._limit.set(usage.budget_bytes)
        self._sessions.set(usage.sessions)


FATES = ("kept", "dropped")


class HistoryMetrics:
    """Chunks of older frames, over all sessions."""

    def __init__(self, registry: CollectorRegistry):
        self._utility = Histogram(
            "stillframe_history_utility",
            "What chunks of older frames were worth, 0 to 1, as they were scored.",
            buckets=UTILITY_BUCKETS,
            registry=registry,
        )
        self._chunks = Counter(
            "stillframe_history_chunks",
            "Chunks of older frames: kept, when the window had gone past them; dropped, then or later.",
            ["fate"],
            registry=registry,
        )
        self._held = Gauge(
            "stillframe_history_chunks_held", "Chunks of older frames that sessions hold.", registry=registry
        )
        self._bytes = Gauge(
            "stillframe_history_bytes", "Memory of the chunks that sessions hold, beside KV memory.", registry=registry
        )
        for fate in FATES:
            self._chunks.labels(fate)

    def frame(self, scored: Scored) -> None:
        """Record what one frame changed."""
        for utility in scored.utilities:
            self._utility.observe(utility)
        for fate, chunks in zip(FATES, (scored.kept, scored.dropped), strict=True):
            self._chunks.labels(fate).inc(chunks)

    def usage(self, usage: KVUsage) -> None:
        """Say what sessions hold now."""
        self._held.set(usage.history_chunks)
        self._bytes.set(usage.history_bytes)
