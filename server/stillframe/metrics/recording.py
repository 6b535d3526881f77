"""Shows what became of frames that were to be recorded.

Knows no disk; reads a report when it is asked.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from prometheus_client import Metric
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.registry import Collector

from stillframe.domain import RecordingReport


class RecordingMetrics(Collector):
    """What somebody else counts."""

    def __init__(self, read: Callable[[], RecordingReport]):
        self._read = read

    def collect(self) -> Iterator[Metric]:
        """What it says now."""
        report = self._read()
        frames = CounterMetricFamily(
            "stillframe_recording_frames",
            "Answered frames by whether they were recorded: kept; lost to the disk; of no session, which are not.",
            labels=["result"],
        )
        for result, count in (("kept", report.kept), ("lost", report.lost), ("sessionless", report.sessionless)):
            frames.add_metric([result], count)
        yield frames
        yield GaugeMetricFamily(
            "stillframe_recording_failing", "1 while frames are being lost, else 0.", value=report.state == "failing"
        )
        yield GaugeMetricFamily(
            "stillframe_recording_bytes", "What the recorded episodes take up.", value=report.used_bytes
        )
        yield GaugeMetricFamily(
            "stillframe_recording_budget_bytes", "What they may take up.", value=report.budget_bytes
        )
