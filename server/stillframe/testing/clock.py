"""A clock that is set by hand. Knows seconds; no test."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass
class ManualClock:
    """Give it as `clock=`: it stands at `now_s` until it is advanced."""

    now_s: float = 0.0

    def __call__(self) -> float:
        """Return the time, in seconds."""
        return self.now_s

    def advance(self, seconds: float) -> float:
        """Let time pass; return what it is then."""
        self.now_s += seconds
        return self.now_s
