"""What is kept of pictures, by `record_images`, and what is said where they are needed and were not kept."""

from __future__ import annotations

import hashlib
import io
import json
import logging
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from stillframe.domain import Observation
from stillframe.errors import StillframeError
from stillframe.recording.frame import RecordedFrame, encode, read_frame
from stillframe.recording.pictures import PictureFormat, RecordingError
from stillframe.recording.reader import check_pictures, read_episodes
from stillframe.recording.recorder import Recorder

Shot = Callable[..., RecordedFrame]


@pytest.fixture
def scene(shot: Shot) -> RecordedFrame:
    """Two cameras: a gradient, and a smaller grey one."""
    across = np.linspace(0, 255, 96).astype(np.uint8)
    front = np.dstack((np.tile(across, (64, 1)), np.full((64, 96), 90), np.tile(across[::-1], (64, 1))))
    images = {"front": front.astype(np.uint8), "wrist": np.full((32, 32, 3), 77, np.uint8)}
    return RecordedFrame(1.0, Observation(images, "go"), shot(3).step)


def back(folder: Path, frame: RecordedFrame, kept: PictureFormat) -> RecordedFrame:
    """Written and read."""
    for name, content in encode(frame, kept).items():
        (folder / name).write_bytes(content)
    return read_frame(folder / "000003.json")


def test_png_keeps_every_bit(tmp_path: Path, scene: RecordedFrame) -> None:
    """It is the default; nothing is missing."""
    read = back(tmp_path, scene, "png")

    assert encode(scene) == encode(scene, "png")
    assert all(np.array_equal(read.observation.images[name], one) for name, one in scene.observation.images.items())
    assert read.missing == {}
    read.check_pictures()


def test_jpeg_keeps_a_picture_that_is_nearly_the_same(tmp_path: Path, scene: RecordedFrame) -> None:
    """Of the same size, within a few grey levels, as a file that any viewer opens."""
    read = back(tmp_path, scene, "jpeg")
    with Image.open(tmp_path / "000003.0.jpg") as opened:
        assert opened.format == "JPEG"
    for name, one in scene.observation.images.items():
        assert np.abs(read.observation.images[name].astype(int) - one).mean() < 3

    read.check_pictures()


def test_a_jpeg_that_was_changed_is_refused(tmp_path: Path, scene: RecordedFrame) -> None:
    """A picture of the same size in its place."""
    back(tmp_path, scene, "jpeg")
    other = io.BytesIO()
    Image.new("RGB", (96, 64), "red").save(other, "JPEG")
    (tmp_path / "000003.0.jpg").write_bytes(other.getvalue())

    with pytest.raises(RecordingError, match=r"000003\.0\.jpg: its pixels are not those that were recorded"):
        read_frame(tmp_path / "000003.json")


@pytest.mark.parametrize("kept", ["hash", "none"])
def test_without_pictures_the_rest_is_read(tmp_path: Path, scene: RecordedFrame, kept: PictureFormat) -> None:
    """Actions, report and instruction; of the pictures names and sizes, and that they are missing."""
    read = back(tmp_path, scene, kept)

    assert [file.name for file in tmp_path.iterdir()] == ["000003.json"]
    assert (read.observation.images, read.observation.instruction) == ({}, "go")
    assert np.array_equal(read.step.chunk.actions, scene.step.chunk.actions)
    assert {name: (one.height, one.width) for name, one in read.missing.items()} == {
        "front": (64, 96),
        "wrist": (32, 32),
    }
    with pytest.raises(StillframeError, match=rf"000003 has no picture of front, wrist: .* '{kept}'.*--record-images"):
        read.check_pictures()


def test_a_hash_tells_equal_pictures_and_none_does_not(tmp_path: Path, scene: RecordedFrame) -> None:
    """SHA-256 of the pixels; where nothing is to be known there is no checksum either."""
    front = scene.observation.images["front"]
    known = back(tmp_path, scene, "hash").missing["front"]
    assert (known.sha256, known.crc32) == (hashlib.sha256(front.tobytes()).hexdigest(), None)

    unknown = back(tmp_path, scene, "none").missing["front"]
    assert (unknown.sha256, unknown.crc32) == (None, None)


def test_a_frame_recorded_before_there_was_a_choice_is_read(tmp_path: Path, scene: RecordedFrame) -> None:
    """Its pictures are PNGs, and nothing says so."""
    back(tmp_path, scene, "png")
    file = tmp_path / "000003.json"
    older = json.loads(file.read_bytes())
    for entry in older["pictures"]:
        del entry["kept"], entry["sha256"]
    del older["report"]["cache"]["patches"], older["report"]["cache"]["last_drift"]
    file.write_text(json.dumps(older))
    read = read_frame(file)

    assert np.array_equal(read.observation.images["front"], scene.observation.images["front"])
    assert read.step.report == scene.step.report


def test_the_recorder_keeps_what_it_was_told_to(tmp_path: Path, shot: Shot) -> None:
    """And the names of the numbers, once an episode."""
    recorder = Recorder(tmp_path, max_bytes=2**20, log=logging.getLogger("test"), images="jpeg")
    recorder.keep("arm", "toy", shot(0), action_names=("dx", "dy"), state_names=("x [m]",))
    recorder.close()
    (episode,) = read_episodes(tmp_path, pytest.fail)

    assert sorted(file.suffix for file in episode.folder.iterdir()) == [".jpg", ".json", ".json"]
    assert (episode.card.action_names, episode.card.state_names) == (("dx", "dy"), ("x [m]",))


def test_missing_pictures_are_told_by_the_first_frame(tmp_path: Path, shot: Shot) -> None:
    """Of a recording in which they are kept, or of which nothing can be read, nothing is said."""
    for kept in ("png", "hash"):
        recorder = Recorder(tmp_path / kept, max_bytes=2**20, log=logging.getLogger("test"), images=kept)
        recorder.keep("arm", "toy", shot(0))
        recorder.close()
    fine, bare = (read_episodes(tmp_path / kept, pytest.fail) for kept in ("png", "hash"))

    check_pictures(fine)
    with pytest.raises(StillframeError, match="000000 has no picture of front"):
        check_pictures(bare)
    bare[0].files[0].write_text("{}")
    check_pictures(bare)
