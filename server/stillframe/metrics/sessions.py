"""Counts who is here, how sessions end, and what became of frames that were not computed.

Knows no session by name and no registry: words and numbers.
"""

from __future__ import annotations

from collections.abc import Mapping

from prometheus_client import CollectorRegistry, Counter, Gauge

STATES = ("idle", "busy", "leaving", "away")
ENDS = ("closed", "expired", "evicted")


class SessionMetrics:
    """Who is here, how sessions end, what became of frames that were not computed. Safe on any thread."""

    def __init__(self, registry: CollectorRegistry):
        self._here = Gauge("stillframe_sessions", "Sessions that are here, by state.", ["state"], registry=registry)
        self._limit = Gauge("stillframe_sessions_limit", "Sessions that may be here at once.", registry=registry)
        self._ends = Counter(
            "stillframe_session_ends", "Sessions that are no more, by the reason.", ["reason"], registry=registry
        )
        self._refused = Counter(
            "stillframe_sessions_refused", "Sessions for which there was no room.", registry=registry
        )
        self._superseded = Counter(
            "stillframe_superseded", "Waiting frames that gave way to a newer one.", registry=registry
        )
        self._replayed = Counter(
            "stillframe_replayed", "Frames that were repeats and not computed again.", registry=registry
        )
        for state in STATES:
            self._here.labels(state)
        for reason in ENDS:
            self._ends.labels(reason)

    def ended(self, state: str) -> None:
        """Count a session that is closed, expired or evicted."""
        self._ends.labels(str(state)).inc()

    def refused(self) -> None:
        """Count a session for which there was no room."""
        self._refused.inc()

    def superseded(self) -> None:
        """Count a waiting frame that gave way to a newer one."""
        self._superseded.inc()

    def replayed(self) -> None:
        """Count a frame that was a repeat."""
        self._replayed.inc()

    def here(self, states: Mapping[str, int]) -> None:
        """Say how many sessions are in each state now."""
        for state, number in states.items():
            self._here.labels(str(state)).set(number)

    def limit(self, most: int) -> None:
        """Say how many there may be."""
        self._limit.set(most)
