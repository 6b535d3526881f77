"""Metrics of sessions: how many are open, how they end, and frames that were not computed.

Knows no session by name and no registry of sessions: words and numbers.
"""

from __future__ import annotations

from collections.abc import Mapping

from prometheus_client import CollectorRegistry

from stillframe.metrics.factory import MetricFactory

STATES = ("idle", "busy", "leaving", "away")
ENDS = ("closed", "expired", "evicted")


class SessionMetrics:
    """Counts of sessions, and of frames that were repeats or superseded. Safe on any thread."""

    def __init__(self, registry: CollectorRegistry):
        make = MetricFactory(registry)
        self._open = make.gauge("stillframe_sessions", "Sessions that are open, by state.", ["state"])
        self._limit = make.gauge("stillframe_sessions_limit", "Sessions that may be open at once.")
        self._ends = make.counter("stillframe_session_ends", "Sessions that ended, by the reason.", ["reason"])
        self._refused = make.counter("stillframe_sessions_refused", "Sessions refused at capacity.")
        self._superseded = make.counter("stillframe_superseded", "Waiting frames that a newer one replaced.")
        self._replayed = make.counter("stillframe_replayed", "Frames that were repeats and not computed again.")
        for state in STATES:
            self._open.labels(state)
        for reason in ENDS:
            self._ends.labels(reason)

    def ended(self, state: str) -> None:
        """Count a session that is closed, expired or evicted."""
        self._ends.labels(str(state)).inc()

    def refused(self) -> None:
        """Count a session refused at capacity."""
        self._refused.inc()

    def superseded(self) -> None:
        """Count a waiting frame that a newer one replaced."""
        self._superseded.inc()

    def replayed(self) -> None:
        """Count a frame that was a repeat."""
        self._replayed.inc()

    def set_counts(self, states: Mapping[str, int]) -> None:
        """Set how many sessions are in each state."""
        for state, number in states.items():
            self._open.labels(str(state)).set(number)

    def set_limit(self, most: int) -> None:
        """Set how many may be open."""
        self._limit.set(most)
