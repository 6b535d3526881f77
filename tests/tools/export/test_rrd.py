"""Rerun's archives, opened by its own reader."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from stillframe.recording.frame import RecordedFrame

pytest.importorskip("rerun", reason="needs the extra export-rerun")
chunks = pytest.importorskip("rerun.chunk", reason="needs rerun-sdk 0.41, whose reader this asks")

Columns = dict[tuple[str, str], list[Any]]


def opened(file: Path) -> tuple[Columns, int]:
    """Entity and component -> its values in their order; and how many layouts the archive has."""
    reader, columns = chunks.RrdReader(file), Columns()
    for chunk in reader.stream():
        batch = chunk.to_record_batch()
        for name in batch.schema.names:
            column = batch.column(name)
            values = [at.value for at in column] if "timestamp" in str(column.type) else column.to_pylist()
            columns.setdefault((chunk.entity_path, name), []).extend(values)
    return columns, len(reader.blueprints())


def test_every_frame_is_there(exported: Callable[..., list[Path]], frames: list[RecordedFrame]) -> None:
    """A file an episode: pictures, numbers with their names, words, and what was reused."""
    files = exported("rrd")
    columns, layouts = opened(files[0])
    scalars = {path: values for (path, name), values in columns.items() if name == "Scalars:scalars"}

    assert len(files) == 2
    assert layouts == 1
    assert columns["/action", "SeriesLines:names"] == [["dx", "dy", "dz", "droll", "dpitch", "dyaw", "gripper"]]
    assert scalars["/action"] == [frame.step.chunk.actions[0].tolist() for frame in frames[:3]]
    assert scalars["/state"] == [[0.0, 1.0], [0.25, 1.0], [0.5, 1.0]]
    assert scalars["/drift"] == [[0.5], [0.25]]
    assert scalars["/latency_ms"] == [[3.0], [4.0], [5.0]]
    assert columns["/instruction", "TextDocument:text"] == [["pick up cube 0"]] * 3
    assert columns["/keyframe", "TextLog:text"] == [["first-frame"]]
    assert len(columns["/camera/front", "EncodedImage:blob"]) == len(columns["/chunk", "Tensor:data"]) == 3
    assert columns["/action", "frame"] == [0, 1, 2]
    assert columns["/action", "time"] == [round(frame.submitted_s * 1e9) for frame in frames[:3]]


def test_a_cameras_name_is_one_part_of_a_path(exported: Callable[..., list[Path]], frame: Callable[..., Any]) -> None:
    """A client names it as it likes."""
    odd = frame(0, 0, images={"../a b/cam": frame(0, 0).observation.images["front"]})
    columns, _ = opened(exported("rrd", [odd])[0])

    assert {path for path, name in columns if name == "EncodedImage:blob"} == {r"/camera/..\/a\ b\/cam"}


def test_what_was_reused_lies_over_the_picture(exported: Callable[..., list[Path]]) -> None:
    """One for a pixel under a reused patch."""
    columns, _ = opened(exported("rrd")[0])
    key, delta, _ = columns["/camera/front/reused", "SegmentationImage:buffer"]
    grid = np.array(delta[0], np.uint8).reshape(32, 48)

    assert not np.array(key[0]).any()
    assert grid[:8, :12].all()
    assert grid.sum() == 3 * 8 * 12
