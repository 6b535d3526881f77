"""Shows how a GPU's passes were computed: replayed, or eagerly and why.

Knows no model; reads counts when it is asked, and has nothing to show where there are none.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from prometheus_client.core import CounterMetricFamily
from prometheus_client.registry import Collector

from stillframe.domain import PassCounts


class PassMetrics(Collector):
    """Two counters that somebody else counts."""

    def __init__(self, read: Callable[[], PassCounts | None]):
        self._read = read

    def collect(self) -> Iterator[CounterMetricFamily]:
        """What they say now."""
        counts = self._read()
        if counts is None:
            return
        yield CounterMetricFamily(
            "stillframe_graph_replays", "Passes that a GPU replayed as they were recorded.", value=counts.replays
        )
        eager = CounterMetricFamily(
            "stillframe_eager_passes", "Passes that a GPU did not replay, by the reason.", labels=["reason"]
        )
        for reason, count in counts.eager.items():
            eager.add_metric([reason], count)
        yield eager
