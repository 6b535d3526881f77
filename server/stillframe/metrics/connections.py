"""Shows what became of connections, read when Prometheus asks.

Knows no connection: a function that reports.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from stillframe.domain import ConnectionReport

CUTS = ("malformed", "too-slow", "too-many-parts")


class ConnectionMetrics(Collector):
    """Connections that are open, refused, displaced or cut, and requests beyond the rate."""

    def __init__(self, read: Callable[[], ConnectionReport]):
        self._read = read

    def collect(self) -> Iterator[Metric]:
        """Report as it is now."""
        report = self._read()
        yield GaugeMetricFamily("stillframe_tcp_connections", "Connections that are open.", report.open)
        yield GaugeMetricFamily("stillframe_tcp_connections_limit", "Connections that may be open.", report.limit)
        yield CounterMetricFamily(
            "stillframe_tcp_connections_refused", "Connections for which there was no room.", report.refused
        )
        yield CounterMetricFamily(
            "stillframe_tcp_connections_displaced", "Connections that gave way to another.", report.displaced
        )
        cut = CounterMetricFamily(
            "stillframe_tcp_connections_cut", "Connections cut for what their client did, by kind.", labels=["reason"]
        )
        for reason in CUTS:
            cut.add_metric([reason], report.cut.get(reason, 0))
        yield cut
        yield CounterMetricFamily(
            "stillframe_rate_limited", "Requests and messages beyond what one caller may ask.", report.rate_limited
        )
