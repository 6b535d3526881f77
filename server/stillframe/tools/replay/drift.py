"""Drift between recorded chunks and those answered on replay: per frame, by action dimension, by quarter of the chunk.

Knows actions and their statistics; no model and no picture. The measure is that of /metrics: the worst dimension of the
worst action, in normalised units, those of the replayed checkpoint.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from stillframe.domain import Step, by_quarter
from stillframe.errors import StillframeError

SIDES = ("recorded", "replayed")


@dataclass(frozen=True)
class FrameDrift:
    """One replayed frame."""

    session: str
    episode: str  # its first folder
    recorded: Step
    replayed: Step
    distances: NDArray[np.float64]  # [actions that both chunks have, action_dim] in normalised units
    own_drift: float | None  # of the replayed answer from a dense pass of its own checkpoint; None: not measured

    @property
    def drift(self) -> float:
        """The worst dimension of the worst action."""
        return float(self.distances.max())

    @property
    def by_dimension(self) -> NDArray[np.float64]:
        """[action_dim]: each dimension's worst action."""
        worst: NDArray[np.float64] = self.distances.max(axis=0)
        return worst

    @property
    def by_quarter(self) -> tuple[float, ...]:
        """The worst of each quarter of the chunk; none of chunks of under four actions."""
        return by_quarter(self.distances.max(axis=1).tolist())


@dataclass(frozen=True)
class DriftSummary:
    """Percentiles of some frames' drift."""

    frames: int
    p50: float
    p90: float
    most: float
    identical: float  # share of frames that were answered with the same actions

    @classmethod
    def of(cls, drifts: Sequence[float]) -> DriftSummary:
        """Of one frame or more."""
        p50, p90, most = (float(value) for value in np.percentile(drifts, (50, 90, 100)))
        return cls(len(drifts), p50, p90, most, float(np.mean(np.asarray(drifts) == 0)))


@dataclass(frozen=True)
class ReplayReport:
    """All replayed frames, in the order in which they were played; one or more."""

    model: str
    mode: str
    action_names: tuple[str, ...]
    frames: Sequence[FrameDrift]

    @property
    def held(self) -> int:
        """Frames that were recorded with their chunk held to the one before, and are replayed without."""
        return sum(frame.recorded.report.rtc is not None for frame in self.frames)

    @property
    def horizons(self) -> tuple[int, int]:
        """Actions of a chunk as recorded, and as replayed; those that both have are compared."""
        chunks = self.frames[0].recorded.chunk, self.frames[0].replayed.chunk
        return len(chunks[0].actions), len(chunks[1].actions)

    @property
    def reuse(self) -> tuple[float, float]:
        """Mean reuse ratio over all frames, as recorded and as replayed."""
        was, now = ([getattr(frame, side).report.cache.reuse_ratio for frame in self.frames] for side in SIDES)
        return float(np.mean(was)), float(np.mean(now))

    @property
    def summary(self) -> DriftSummary:
        """Over all frames."""
        return DriftSummary.of([frame.drift for frame in self.frames])

    @property
    def by_session(self) -> dict[str, DriftSummary]:
        """Session -> over its frames."""
        groups: dict[str, list[float]] = {}
        for frame in self.frames:
            groups.setdefault(frame.session, []).append(frame.drift)
        return {session: DriftSummary.of(drifts) for session, drifts in groups.items()}

    @property
    def by_dimension(self) -> dict[str, DriftSummary]:
        """Name of an action's number -> over all frames."""
        distances = np.array([frame.by_dimension for frame in self.frames])
        return {name: DriftSummary.of(distances[:, at].tolist()) for at, name in enumerate(self.action_names)}

    @property
    def by_quarter(self) -> dict[str, DriftSummary]:
        """Quarter of the chunk, "1" due first -> over all frames with so many actions."""
        rows = [quarters for frame in self.frames if (quarters := frame.by_quarter)]
        return {str(at): DriftSummary.of(column) for at, column in enumerate(zip(*rows, strict=True), start=1)}

    def check(self, max_drift: float | None, max_p90: float | None) -> None:
        """Raise StillframeError where a frame, or the 90th percentile, is beyond what is allowed; None: anything."""
        found, over = self.summary, []
        if max_drift is not None and found.most > max_drift:
            beyond = sum(frame.drift > max_drift for frame in self.frames)
            over.append(f"{beyond} of {found.frames} frames drift beyond {max_drift:g}, the worst by {found.most:.4f}")
        if max_p90 is not None and found.p90 > max_p90:
            over.append(f"drift p90 is {found.p90:.4f}, beyond {max_p90:g}")
        if over:
            raise StillframeError("; ".join(over) + f": {self.model} answers otherwise than what was recorded")
