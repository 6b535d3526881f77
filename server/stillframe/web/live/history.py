"""SessionTrace: a session's last frames as figures, and the newest one with pictures if a watcher asked for it.

Knows reports and views; no lock and no wire.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from statistics import median
from typing import Any

from stillframe.domain import FrameViews, SlackReport, Step

ENTRIES_KEPT = 300  # frames and refreshes of one session
RECENT_S = 2.0  # over which a rate is measured
RECENT_FRAMES = 30  # over which means and medians are taken


@dataclass(frozen=True, slots=True)
class Entry:
    """One answered frame, or one refresh of it."""

    number: int  # rises by one with each entry of the session
    at_s: float  # Unix time
    epoch: int
    seq: int
    content: Step | SlackReport


@dataclass(frozen=True, slots=True)
class PicturedFrame:
    """The newest frame that was asked for."""

    number: int  # its entry's
    epoch: int
    seq: int
    step: Step
    views: FrameViews


@dataclass(frozen=True, slots=True)
class LatestFrame:
    """The newest answered frame, with what its session's last frames and refreshes say."""

    entry: Entry
    age_s: float  # since it was answered
    stages_ms: Mapping[str, float]  # medians of the last frames, in the newest one's order
    drift: float | None  # that the newest refresh measured; None: none did


@dataclass
class SessionTrace:
    """Of one session; a later one of the same id has another serial, and a trace of its own."""

    serial: int
    entries: deque[Entry] = field(default_factory=lambda: deque(maxlen=ENTRIES_KEPT))
    count: int = 0  # entries so far
    wanted: bool = False  # the next frame's views
    newest: PicturedFrame | None = None

    def add(self, at_s: float, epoch: int, seq: int, content: Step | SlackReport) -> int:
        """Append an entry and return its number."""
        self.count += 1
        self.entries.append(Entry(self.count, at_s, epoch, seq, content))
        return self.count

    def since(self, number: int) -> list[Entry]:
        """Entries after that one, as far as they are kept, oldest first."""
        wanted = min(len(self.entries), self.count - number)
        return [self.entries[at] for at in range(len(self.entries) - wanted, len(self.entries))]

    def summary(self, now_s: float) -> Mapping[str, Any]:
        """A few figures of its last frames, for a list of sessions."""
        frames, steps = self._recent()
        return {
            "reuse_ratio": _mean([step.report.cache.reuse_ratio for step in steps]),
            "total_ms": median(step.report.total_ms for step in steps) if steps else None,
            "frames_per_s": _rate([entry.at_s for entry in frames], now_s),
        }

    def latest(self, now_s: float) -> LatestFrame | None:
        """Its newest frame; None where it had none."""
        frames, steps = self._recent()
        if not frames:
            return None
        stages = {
            name: median(step.report.stages_ms.get(name, 0.0) for step in steps) for name in steps[-1].report.stages_ms
        }
        refreshes = (entry.content for entry in reversed(self.entries) if isinstance(entry.content, SlackReport))
        drift = next((refresh.drift for refresh in refreshes), None)
        return LatestFrame(frames[-1], max(0.0, now_s - frames[-1].at_s), stages, drift)

    def _recent(self) -> tuple[list[Entry], list[Step]]:
        """The last frames, oldest first, and their answers."""
        frames = [entry for entry in self.entries if isinstance(entry.content, Step)][-RECENT_FRAMES:]
        return frames, [entry.content for entry in frames if isinstance(entry.content, Step)]


def _mean(values: Sequence[float]) -> float | None:
    return sum(values) / len(values) if values else None


def _rate(times_s: Sequence[float], now_s: float) -> float:
    """Frames a second over the last RECENT_S, or since the oldest of `times_s` where all are as recent."""
    recent = [at_s for at_s in times_s if now_s - at_s <= RECENT_S]
    if len(recent) == len(times_s) > 1:
        return (len(recent) - 1) / max(1e-3, recent[-1] - recent[0])
    return len(recent) / RECENT_S
