"""Declares metrics in one registry, a line each.

Knows no metric.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram


class MetricFactory:
    """Makes metrics that belong to one registry."""

    def __init__(self, registry: CollectorRegistry):
        self._registry = registry

    def histogram(self, name: str, text: str, buckets: Sequence[float], labels: Iterable[str] = ()) -> Histogram:
        """A distribution over `buckets`."""
        return Histogram(name, text, labels, buckets=buckets, registry=self._registry)

    def counter(self, name: str, text: str, labels: Iterable[str] = ()) -> Counter:
        """A count that only rises."""
        return Counter(name, text, labels, registry=self._registry)

    def gauge(self, name: str, text: str, labels: Iterable[str] = ()) -> Gauge:
        """A value as it is now."""
        return Gauge(name, text, labels, registry=self._registry)
