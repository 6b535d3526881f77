from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from stillframe.domain import Observation
from stillframe.recording.frame import RecordedFrame, encode, read_frame

Shot = Callable[..., RecordedFrame]


def test_the_json_comes_last(shot: Shot) -> None:
    """A frame is none before it: pictures in the client's order, then what says how many there are."""
    picture = shot(7).observation.images["front"]
    frame = RecordedFrame(1.0, Observation({"wrist": picture, "front": picture}, "go"), shot(7).step)

    assert list(encode(frame)) == ["000007.0.png", "000007.1.png", "000007.json"]


def test_what_was_asked_for_is_told_from_what_was_answered(tmp_path: Path, shot: Shot) -> None:
    """A frame that named no statistics is played again without; the answer says whose it was scaled by."""
    observation = Observation(shot(0).observation.images, "go", None)
    for name, content in encode(RecordedFrame(1.0, observation, shot(0).step)).items():
        (tmp_path / name).write_bytes(content)
    back = read_frame(tmp_path / "000000.json")

    assert (back.observation.unnorm_key, back.step.chunk.unnorm_key) == (None, "jaco")


@pytest.mark.parametrize("crop", [None, 0.9])
def test_what_was_looked_at_is_looked_at_again(tmp_path: Path, shot: Shot, crop: float | None) -> None:
    """A frame of which the middle was seen is played again so; one recorded before there was such a thing is whole."""
    observation = Observation(shot(0).observation.images, "go", None, crop)
    for name, content in encode(RecordedFrame(1.0, observation, shot(0).step)).items():
        (tmp_path / name).write_bytes(content)
    file = tmp_path / "000000.json"
    assert read_frame(file).observation.center_crop == crop
    older = json.loads(file.read_bytes())
    del older["center_crop"]
    file.write_text(json.dumps(older))

    assert read_frame(file).observation.center_crop is None


@pytest.mark.parametrize("state", [None, [0.1, -1 / 3, 5e-324]])
def test_the_robots_state_is_played_again(tmp_path: Path, shot: Shot, state: list[float] | None) -> None:
    """To the bit; a frame recorded before there was such a thing has none."""
    given = None if state is None else np.array(state)
    observation = Observation(shot(0).observation.images, "go", state=given)
    for name, content in encode(RecordedFrame(1.0, observation, shot(0).step)).items():
        (tmp_path / name).write_bytes(content)
    file = tmp_path / "000000.json"
    back = read_frame(file).observation.state
    older = json.loads(file.read_bytes())
    assert older.pop("state") == state
    file.write_text(json.dumps(older))

    assert (None if back is None else back.tolist()) == state
    assert read_frame(file).observation.state is None


def test_names_sort_as_frames_do(shot: Shot) -> None:
    """Six digits at least."""
    assert [shot(seq).name for seq in (0, 42, 999_999, 1_000_000)] == ["000000", "000042", "999999", "1000000"]
