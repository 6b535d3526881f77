"""Counts what is kept of older frames, what goes, what it is worth, and what it takes in memory.

Knows no session by name, no HTTP and no model.
"""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from stillframe.domain import KVUsage, Scored
from stillframe.metrics.buckets import UTILITY_BUCKETS

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
