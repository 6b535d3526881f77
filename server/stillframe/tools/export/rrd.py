"""A recording as Rerun's archives, one .rrd an episode, with a layout of its views.

Knows Rerun's archetypes; no viewer. Needs the extra export-rerun.

    camera/NAME             what the policy saw, as PNG
    camera/NAME/reused      over it: 1 where keys and values were reused, where the recording says so
    state, action           a line for each number; the action due first
    chunk                   all actions, [step, number]
    instruction, keyframe   words
    reuse, latency_ms, ...  figures; latency_ms/stages has a line for each stage
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import rerun as rr
import rerun.blueprint as rrb
from numpy.typing import NDArray

from stillframe.recording.pictures import encode_picture
from stillframe.recording.reader import WholeEpisode
from stillframe.tools.export.frames import Advance, ExportedFrame, Warn, exported, names_of

APPLICATION = "stillframe"
REUSED_RGBA, COMPUTED_RGBA = (255, 255, 255, 200), (0, 0, 0, 0)
FIGURES = ("reuse_ratio", "drift", "latency_ms", "passes", "age_max_frames")


def export_rrd(episode: WholeEpisode, out: Path, warn: Warn, advance: Advance) -> Path:
    """Write one episode into the folder `out`."""
    file = out / f"{episode.name}.rrd"
    log = rr.RecordingStream(APPLICATION, recording_id=episode.name)
    log.save(file)
    named: set[str] = set()
    for frame in exported(episode, warn, advance):
        log.set_time("frame", sequence=frame.cache.seq)
        log.set_time("time", timestamp=frame.recorded.submitted_s)
        _log_pictures(log, frame, named)
        _log_numbers(log, frame, episode, named)
        _log_words(log, frame)
    log.send_blueprint(_layout(named))
    log.flush()
    log.disconnect()
    return file


def _log_pictures(log: rr.RecordingStream, frame: ExportedFrame, named: set[str]) -> None:
    for camera, picture in frame.pictures.items():
        path = rr.new_entity_path(["camera", camera])  # escaped: a client names its camera as it likes
        _, content = encode_picture(camera, picture, "png")
        log.log(path, rr.EncodedImage(contents=content, media_type="image/png"))
        reused = frame.reused(camera)
        if path not in named:
            named.add(path)
            classes = [(0, "computed", COMPUTED_RGBA), (1, "reused", REUSED_RGBA)]
            log.log(path, rr.AnnotationContext(classes), static=True)
        if reused is not None:
            log.log(f"{path}/reused", rr.SegmentationImage(reused.astype(np.uint8)))


def _log_numbers(log: rr.RecordingStream, frame: ExportedFrame, episode: WholeEpisode, named: set[str]) -> None:
    state, chunk, card = frame.recorded.observation.state, frame.chunk, episode.card
    if state is not None:
        _lines(log, "state", state, names_of(card.state_names, len(state), "state"), named)
    _lines(log, "action", chunk[0], names_of(card.action_names, chunk.shape[1], "action"), named)
    if len(chunk) > 1:
        log.log("chunk", rr.Tensor(chunk, dim_names=("step", "number")))
    for name in FIGURES:
        if name in frame.figures:
            log.log(name, rr.Scalars(frame.figures[name]))
    stages = frame.recorded.step.report.stages_ms
    _lines(log, "latency_ms/stages", [*stages.values()], [*stages], named)


def _log_words(log: rr.RecordingStream, frame: ExportedFrame) -> None:
    log.log("instruction", rr.TextDocument(frame.recorded.observation.instruction))
    if frame.keyframe_reason:
        log.log("keyframe", rr.TextLog(frame.keyframe_reason))


def _lines(
    log: rr.RecordingStream,
    path: str,
    values: Sequence[float] | NDArray[np.float64],
    names: Sequence[str],
    named: set[str],
) -> None:
    """A line for each number; their names are logged once."""
    if path not in named:
        named.add(path)
        log.log(path, rr.SeriesLines(names=[*names]), static=True)
    log.log(path, rr.Scalars(np.asarray(values, np.float64)))


def _layout(named: set[str]) -> Any:
    """Cameras and the instruction on the left, figures over time on the right."""
    cameras = [rrb.Spatial2DView(origin=path, name=path) for path in sorted(named) if path.startswith("/camera/")]
    plots = [name for name in ("action", "state") if name in named]
    figures = [
        *(rrb.TimeSeriesView(origin=name, name=name) for name in plots),
        rrb.TimeSeriesView(name="reuse and drift", contents=["/reuse_ratio", "/drift"]),
        rrb.TimeSeriesView(origin="latency_ms", name="latency, ms"),
        rrb.TextLogView(origin="keyframe", name="keyframes"),
    ]
    words = rrb.TextDocumentView(origin="instruction", name="instruction")
    seen = rrb.Vertical(*cameras, words, row_shares=[*[4] * len(cameras), 1])
    return rrb.Blueprint(rrb.Horizontal(seen, rrb.Vertical(*figures)), collapse_panels=True)
