"""Who is told what the sessions room does, to count it.

Knows no metric.
"""

from __future__ import annotations

from typing import Protocol

from stillframe.sessions.states import State


class Watch(Protocol):
    """Called on any thread, under the roster's lock: quick, and asks the roster nothing."""

    def ended(self, state: State) -> None:
        """A session is closed, expired or evicted."""
        ...

    def refused(self) -> None:
        """There was no room for one more session."""
        ...

    def superseded(self) -> None:
        """A waiting frame gave way to a newer one."""
        ...

    def replayed(self) -> None:
        """A frame was a repeat and was not computed again."""
        ...
