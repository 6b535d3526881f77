"""Metrics of reuse between frames and of kept older frames: ratios, keyframes, drift, refreshes, memory.

Knows no session by name, no HTTP and no model.
"""

from __future__ import annotations

from prometheus_client import CollectorRegistry

from stillframe.domain import REUSE_MODES, CacheReport, KeyframeReason, KVUsage, Scored, SlackReport, by_quarter
from stillframe.metrics.buckets import AGE_BUCKETS, DRIFT_BUCKETS, LATENCY_BUCKETS_S, RATIO_BUCKETS, UTILITY_BUCKETS
from stillframe.metrics.factory import MetricFactory

FATES = ("kept", "dropped")


class ReuseMetrics:
    """Reuse of keys and values, over all sessions."""

    def __init__(self, registry: CollectorRegistry, drift_budget: float):
        make = MetricFactory(registry)
        self._ratio = make.histogram(
            "stillframe_reuse_ratio",
            "Share of a frame's token-layers that it reused; 0 for a keyframe.",
            RATIO_BUCKETS,
            ["mode"],
        )
        self._keyframes = make.counter("stillframe_keyframes", "Frames computed whole, by the reason.", ["reason"])
        self._age_frames = make.histogram(
            "stillframe_reused_age_frames",
            "Age of the oldest token that a delta frame reused, in frames.",
            AGE_BUCKETS,
        )
        self._relevant = make.histogram(
            "stillframe_relevant_ratio",
            "Share of a delta frame's tokens that were computed because the task looks there.",
            RATIO_BUCKETS,
        )
        self._caution = make.histogram(
            "stillframe_caution",
            "How far drift had tightened a delta frame's thresholds: 0 as configured, 1 nothing is reused.",
            RATIO_BUCKETS,
        )
        self._drift = make.histogram(
            "stillframe_drift",
            "Distance of an answer from a dense pass on its frame: worst dimension of what is to be played, normalised "
            "units.",
            DRIFT_BUCKETS,
        )
        self._chunk_drift = make.histogram(
            "stillframe_chunk_drift",
            "The drift of chunks of four actions or more, by the quarter of the chunk: its worst action.",
            DRIFT_BUCKETS,
            ["quarter"],
        )
        self._budget = make.gauge("stillframe_drift_budget", "Drift that an answer may have.")
        self._slack_s = make.histogram(
            "stillframe_slack_seconds",
            "Time of the dense passes between frames, preempted ones included.",
            LATENCY_BUCKETS_S,
        )
        self._yield_s = make.histogram(
            "stillframe_slack_yield_seconds",
            "From a frame's arrival until the dense pass under way had stopped for it.",
            LATENCY_BUCKETS_S,
        )
        self._audit_s = make.histogram(
            "stillframe_audit_seconds",
            "Time of the audits of keyframes.",
            LATENCY_BUCKETS_S,
        )
        self._audit_drift = make.histogram(
            "stillframe_audit_drift",
            "Distance of a keyframe's answer from that of the delta frame that it replaced: as stillframe_drift.",
            DRIFT_BUCKETS,
        )
        self._in_use = make.gauge("stillframe_kv_in_use_bytes", "KV memory that sessions hold.")
        self._limit = make.gauge("stillframe_kv_budget_bytes", "KV memory that sessions may hold.")
        self._sessions = make.gauge("stillframe_kv_sessions", "Sessions that hold KV memory.")
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
            self._relevant.observe(cache.relevant_tokens / cache.total_tokens)
            self._caution.observe(cache.caution)
        else:
            self._keyframes.labels(cache.keyframe_reason.value).inc()

    def slack(self, report: SlackReport) -> None:
        """Record an idle refresh, or an audit."""
        seconds, drift = (self._audit_s, self._audit_drift) if report.audit else (self._slack_s, self._drift)
        seconds.observe(report.duration_ms / 1000)
        if report.drift is not None:
            drift.observe(report.drift)
        if report.audit:
            return
        for quarter, worst in enumerate(by_quarter(report.by_action), start=1):
            self._chunk_drift.labels(str(quarter)).observe(worst)
        if report.yield_ms is not None:
            self._yield_s.observe(report.yield_ms / 1000)

    def usage(self, usage: KVUsage) -> None:
        """Set how full the KV pool is."""
        self._in_use.set(usage.in_use_bytes)
        self._limit.set(usage.budget_bytes)
        self._sessions.set(usage.sessions)


class HistoryMetrics:
    """Chunks of older frames, over all sessions."""

    def __init__(self, registry: CollectorRegistry):
        make = MetricFactory(registry)
        self._utility = make.histogram(
            "stillframe_history_utility",
            "Utilities of chunks of older frames, 0 to 1, as they were scored.",
            UTILITY_BUCKETS,
        )
        self._chunks = make.counter(
            "stillframe_history_chunks",
            "Chunks of older frames: kept, when they left the window; dropped, then or later.",
            ["fate"],
        )
        self._held = make.gauge("stillframe_history_chunks_held", "Chunks of older frames that sessions hold.")
        self._bytes = make.gauge(
            "stillframe_history_bytes", "Memory of the chunks that sessions hold, beside KV memory."
        )
        for fate in FATES:
            self._chunks.labels(fate)

    def frame(self, scored: Scored) -> None:
        """Record the chunks that one frame added and dropped."""
        for utility in scored.utilities:
            self._utility.observe(utility)
        for fate, chunks in zip(FATES, (scored.kept, scored.dropped), strict=True):
            self._chunks.labels(fate).inc(chunks)

    def usage(self, usage: KVUsage) -> None:
        """Set what sessions hold."""
        self._held.set(usage.history_chunks)
        self._bytes.set(usage.history_bytes)
