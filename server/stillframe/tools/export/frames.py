"""What every format exports of a frame: pictures, state, action, chunk, instruction, and figures by name.

Knows recorded frames; no format.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, islice, pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stillframe.domain import CacheReport, Image, ReusedPatches
from stillframe.recording.frame import RecordedFrame
from stillframe.recording.reader import WholeEpisode
from stillframe.tools.charts import PALE, WHITE, tinted

Warn = Callable[[str], None]
Advance = Callable[[], None]
RATE_FRAMES = 200  # by which the rate is told
DEFAULT_HZ = 10


@dataclass(frozen=True)
class ExportedFrame:
    """One frame and what is only known from the next."""

    recorded: RecordedFrame
    drift: float | None  # of its answer from a dense pass, normalised units; None: the daemon did not measure it

    @property
    def cache(self) -> CacheReport:
        """What it reused."""
        return self.recorded.step.report.cache

    @property
    def pictures(self) -> dict[str, Image]:
        """Camera -> picture."""
        return dict(self.recorded.observation.images)

    @property
    def chunk(self) -> NDArray[np.float64]:
        """[horizon, action_dim] in the robot's units, the first due then."""
        return self.recorded.step.chunk.actions

    @property
    def figures(self) -> dict[str, float]:
        """Name -> number; drift is missing where it is not known."""
        report, cache = self.recorded.step.report, self.cache
        known = {} if self.drift is None else {"drift": self.drift}
        return {
            "reuse_ratio": cache.reuse_ratio,
            "keyframe": float(cache.frame == "keyframe"),
            "age_max_frames": float(cache.age_max),
            "passes": float(report.passes),
            "latency_ms": report.total_ms,
            **known,
        }

    @property
    def keyframe_reason(self) -> str:
        """Why it was computed whole; empty for a delta frame."""
        return "" if self.cache.keyframe_reason is None else self.cache.keyframe_reason.value

    def reused(self, camera: str) -> NDArray[np.bool_] | None:
        """Pixels [height, width] of a picture under patches that were reused; None: the recording does not say."""
        known = self.cache.patches
        if known is None or camera not in known:
            return None
        crop = self.recorded.observation.center_crop
        return reused_pixels(known[camera], self.pictures[camera].shape[:2], 1.0 if crop is None else crop)

    def overlay(self, camera: str) -> Image | None:
        """The picture with its reused patches paled, so that what was computed stands out."""
        reused = self.reused(camera)
        return None if reused is None else tinted(self.pictures[camera], reused, WHITE, PALE)


def reused_pixels(patches: ReusedPatches, size: tuple[int, int], crop: float) -> NDArray[np.bool_]:
    """Pixels [height, width] under reused patches; `crop`: the share of the picture, at its middle, that is looked at.

    The grid covers what is looked at; where that was padded, the square that it was padded to.
    """
    rows, columns = patches.grid
    grid = np.zeros((rows + 1, columns + 1), np.bool_)  # with a row and a column for what is beyond
    grid[:rows, :columns].flat[list(patches.reused)] = True
    spans = [max(size)] * 2 if patches.padded else [length * crop**0.5 for length in size]
    down, across = (_cell(length, span, cells) for length, span, cells in zip(size, spans, patches.grid, strict=True))
    return grid[down][:, across]


def _cell(length: int, span: float, cells: int) -> NDArray[np.int64]:
    """[length]: which of `cells` each pixel is in, where they cover `span` pixels in the middle; `cells`: in none."""
    places = ((np.arange(length) + 0.5 - (length - span) / 2) * cells / span).astype(np.int64)
    outside = np.abs(np.arange(length) + 0.5 - length / 2) > span / 2
    return np.where(outside, cells, np.clip(places, 0, cells - 1))


def exported(episode: WholeEpisode, warn: Warn, advance: Advance = lambda: None) -> Iterator[ExportedFrame]:
    """An episode's frames. Raises StillframeError where pictures were not kept."""
    frames = episode.frames(warn)
    last = next(frames, None)
    for frame in chain(frames, [None]):
        if last is None:
            return
        last.check_pictures()
        yield ExportedFrame(last, None if frame is None else frame.step.report.cache.last_drift)
        advance()
        last = frame


def rate_hz(episodes: Iterable[WholeEpisode]) -> int:
    """Frames a second, at least 1: the median of what the first frames say."""
    times = islice(((one.name, frame.submitted_s) for one in episodes for frame in one.frames(_ignore)), RATE_FRAMES)
    gaps = [after[1] - before[1] for before, after in pairwise(times) if after[0] == before[0]]
    return max(1, round(1 / max(1e-3, float(np.median(gaps))))) if gaps else DEFAULT_HZ


def names_of(known: Sequence[str], numbers: int, what: str) -> list[str]:
    """Names of an action's or a state's numbers; by their place where the recording does not say."""
    return [*known] if len(known) == numbers else [f"{what}_{at}" for at in range(numbers)]


def json_report(frame: ExportedFrame) -> dict[str, Any]:
    """All figures and words of a frame but its numbers: for formats that hold documents."""
    report = frame.recorded.step.report
    return {
        **frame.figures,
        "mode": frame.cache.mode,
        "keyframe_reason": frame.keyframe_reason,
        "stages_ms": dict(report.stages_ms),
        "draft": {"way": report.draft.way, "accepted": report.draft.accepted},
        "batch": report.batch,
    }


def _ignore(_: str) -> None:
    """What cannot be read is named when it is exported."""
