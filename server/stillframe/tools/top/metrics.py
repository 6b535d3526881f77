"""Reads the daemon's totals out of Prometheus' text.

Knows the series that are shown; no connection.
"""

from __future__ import annotations

from prometheus_client.parser import text_string_to_metric_families

from stillframe.tools.top.snapshot import Labelled, Totals

FRAMES, REJECTED = "stillframe_frames_total", "stillframe_rejected_total"


def read_totals(text: str, at_s: float) -> Totals:
    """The totals in a reply of /metrics. Raises ValueError for what is none; a series that is missing is 0."""
    series: dict[str, dict[str, float]] = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            label = ",".join(sample.labels.values())
            series.setdefault(sample.name, {})[label] = sample.value
    if "stillframe_ready" not in series:
        raise ValueError("there is no series stillframe_ready")

    def labelled(name: str) -> Labelled:
        return series.get(name, {})

    def one(name: str) -> float:
        return labelled(name).get("", 0.0)

    return Totals(
        at_s,
        labelled(FRAMES),
        labelled(REJECTED),
        one("stillframe_sessions_refused_total"),
        one("stillframe_rate_limited_total"),
        one("stillframe_queue_depth"),
        one("stillframe_connections"),
        one("stillframe_history_bytes"),
    )
