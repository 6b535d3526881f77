"""Shows how many lines of the log were lost.

Knows no log; reads a count when it is asked.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from prometheus_client.core import CounterMetricFamily
from prometheus_client.registry import Collector


class LogMetrics(Collector):
    """A counter that somebody else counts."""

    def __init__(self, read: Callable[[], int]):
        self._read = read

    def collect(self) -> Iterator[CounterMetricFamily]:
        """What it says now."""
        yield CounterMetricFamily(
            "stillframe_log_lines_lost",
            "Lines of the log that found no room or could not be written: whoever reads them is too slow.",
            value=self._read(),
        )
