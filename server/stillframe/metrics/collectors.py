"""Metrics that other rooms count, read when Prometheus scrapes: connections, recording, log lines, a GPU's state.

Knows the reports, and functions that return them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from prometheus_client import Metric
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.registry import Collector

from stillframe.domain import ConnectionReport, GpuMemory, PassCounts, RecordingReport, WatchReport

CUTS = ("malformed", "too-slow", "too-many-parts")


class ConnectionCollector(Collector):
    """Connections that are open, refused, displaced or cut, and requests beyond the rate."""

    def __init__(self, read: Callable[[], ConnectionReport]):
        self._read = read

    def collect(self) -> Iterator[Metric]:
        """Read the report."""
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


class RecordingCollector(Collector):
    """Frames that were recorded or lost, and the disk space that they take."""

    def __init__(self, read: Callable[[], RecordingReport]):
        self._read = read

    def collect(self) -> Iterator[Metric]:
        """Read the report."""
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
            "stillframe_recording_budget_bytes", "What the recorded episodes may take up.", value=report.budget_bytes
        )


class WatchCollector(Collector):
    """Browsers that watch the live page, and what that took."""

    def __init__(self, read: Callable[[], WatchReport]):
        self._read = read

    def collect(self) -> Iterator[Metric]:
        """Read the report."""
        report = self._read()
        yield GaugeMetricFamily("stillframe_live_watchers", "Browsers that watch sessions.", report.open)
        yield CounterMetricFamily(
            "stillframe_live_watchers_refused", "Browsers refused, for as many watched as may.", report.refused
        )
        yield CounterMetricFamily(
            "stillframe_live_pictures", "Frames whose pictures were encoded for a watcher.", report.pictures
        )


class LogCollector(Collector):
    """Log lines that were lost."""

    def __init__(self, read: Callable[[], int]):
        self._read = read

    def collect(self) -> Iterator[Metric]:
        """Read the count."""
        yield CounterMetricFamily(
            "stillframe_log_lines_lost",
            "Lines of the log that found no room or could not be written: their reader is too slow.",
            value=self._read(),
        )


class PassCollector(Collector):
    """GPU passes, replayed or eager; nothing on a CPU."""

    def __init__(self, read: Callable[[], PassCounts | None]):
        self._read = read

    def collect(self) -> Iterator[Metric]:
        """Read the counts."""
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


class GpuMemoryCollector(Collector):
    """A GPU's memory; nothing on a CPU."""

    def __init__(self, read: Callable[[], GpuMemory | None]):
        self._read = read

    def collect(self) -> Iterator[Metric]:
        """Ask the GPU."""
        memory = self._read()
        if memory is None:
            return
        for name, text, value in (
            ("allocated", "GPU memory that the daemon's tensors take.", memory.allocated),
            (
                "reserved",
                "GPU memory that the daemon's allocator holds, for tensors and those to come.",
                memory.reserved,
            ),
            ("free", "GPU memory that no process holds.", memory.free),
            ("total", "GPU memory that there is.", memory.total),
        ):
            yield GaugeMetricFamily(f"stillframe_gpu_memory_{name}_bytes", text, value)
