"""A recording as films to look at, one MP4 an episode: every camera, what was computed of each, and a caption.

Knows pictures and words. Needs the extra export-video.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from stillframe.domain import Image
from stillframe.recording.reader import WholeEpisode
from stillframe.tools.charts import captioned
from stillframe.tools.export.film import Film
from stillframe.tools.export.frames import Advance, ExportedFrame, Warn, exported

LEAST_WIDTH_PX = 448  # below, pictures are shown larger: the caption needs room


def export_video(episode: WholeEpisode, out: Path, fps: int, warn: Warn, advance: Advance) -> Path:
    """Write one episode into the folder `out`."""
    file = out / f"{episode.name}.mp4"
    with Film(file, fps) as film:
        for frame in exported(episode, warn, advance):
            film.add(drawn(frame))
    return file


def drawn(frame: ExportedFrame) -> Image:
    """A row a camera, beside it what was computed of it where that is known, and two lines of words."""
    rows = [_row(frame, camera) for camera in frame.pictures]
    width = max(row.shape[1] for row in rows)
    card: Image = np.vstack([np.pad(row, ((0, 0), (0, width - row.shape[1]), (0, 0)), mode="edge") for row in rows])
    scale = -(-LEAST_WIDTH_PX // card.shape[1])
    shown = np.repeat(np.repeat(card, scale, axis=0), scale, axis=1)
    for line in captions(frame):
        shown = np.asarray(captioned(shown, line))
    return shown


def captions(frame: ExportedFrame) -> tuple[str, str]:
    """What was asked, and what the answer cost."""
    cache, figures = frame.cache, frame.figures
    kind = f"keyframe: {frame.keyframe_reason}" if frame.keyframe_reason else f"delta, reuse {cache.reuse_ratio:.2f}"
    drift = "" if frame.drift is None else f", drift {frame.drift:.4f}"
    return (
        f"{cache.epoch}/{cache.seq}  {frame.recorded.observation.instruction}",
        f"{kind}{drift}, {figures['latency_ms']:.0f} ms, passes {frame.recorded.step.report.passes}",
    )


def _row(frame: ExportedFrame, camera: str) -> Image:
    picture, overlay = frame.pictures[camera], frame.overlay(camera)
    return picture if overlay is None else np.hstack((picture, overlay))
