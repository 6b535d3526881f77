from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import pytest

from stillframe_client.jaco2.cameras import make_camera
from stillframe_client.jaco2.cameras.base import Camera, CameraError, CameraUnusable
from stillframe_client.jaco2.cameras.first_frame import save_first_frame
from stillframe_client.jaco2.cameras.replay import ReplaySource
from stillframe_client.jaco2.settings import BridgeSettings, CameraSettings


@pytest.fixture
def recording(tmp_path: Path, noise: Any) -> Path:
    """A folder of four pictures of 80 x 60."""
    folder = tmp_path / "recording"
    folder.mkdir()
    for number in range(4):
        PIL.Image.fromarray(noise(number, 60, 80)).save(folder / f"{number}.png")
    return folder


def replayed(source: str, **settings: Any) -> CameraSettings:
    """Settings of a recording."""
    return CameraSettings(kind="replay", source=source, **{"resize": 32, "age_s": 2.0, **settings})


def watch(camera: Camera) -> None:
    """Look at a camera for 20 s, or until it raises."""
    give_up = time.monotonic() + 20
    camera.start(20)
    while time.monotonic() < give_up:
        camera.latest()
        time.sleep(0.001)


def test_a_recording_is_a_camera(recording: Path, tmp_path: Path) -> None:
    """Started it gives prepared frames with growing numbers; the first, saved, is the same pixel for pixel."""
    camera = make_camera("front", replayed(str(recording), rotate=180, fps=50.0), BridgeSettings())
    camera.start(20)
    first = camera.latest()
    give_up = time.monotonic() + 20
    while camera.latest().seq < first.seq + 3 and time.monotonic() < give_up:
        time.sleep(0.01)
    later = camera.latest()
    camera.close()
    save_first_frame(first, tmp_path / "run" / "first.png")

    assert later.seq >= first.seq + 3
    assert first.picture.shape == (32, 32, 3)
    with PIL.Image.open(tmp_path / "run" / "first.png") as saved:
        assert saved.format == "PNG"
        assert np.array_equal(np.asarray(saved), first.picture)


def test_two_cameras_of_a_run_are_played_by_their_names(tmp_path: Path) -> None:
    """Both have the run's folder as source, and the same settings otherwise."""
    for name, value in (("front", 10), ("wrist", 200)):
        (tmp_path / "pictures" / name).mkdir(parents=True)
        grey = PIL.Image.new("RGB", (32, 32), (value,) * 3)
        grey.save(tmp_path / "pictures" / name / "000001.jpg")
    bridge = BridgeSettings(
        cameras={name: replayed(str(tmp_path), frozen_s=0.0, fps=20.0) for name in ("front", "wrist")}
    )
    values = {}
    for name, settings in bridge.cameras.items():
        camera = make_camera(name, settings, bridge)
        camera.start(20)
        values[name] = int(camera.latest().picture[0, 0, 0])
        camera.close()

    assert values == {"front": 10, "wrist": 200}


def test_a_recording_has_its_own_size(recording: Path, noise: Any) -> None:
    """Width and height are not looked at; but one picture of another size stops it, with both sizes in the text."""
    PIL.Image.fromarray(noise(9, 61, 80)).save(recording / "1b.png")
    camera = make_camera("front", replayed(f"once:{recording}", fps=240.0, width=640, height=480), BridgeSettings())
    with pytest.raises(CameraUnusable, match=r"cameras\.front: a picture of 80 x 61 came .* expected 80 x 60"):
        watch(camera)
    camera.close()


def test_a_simulated_world_draws_at_the_size_that_is_asked_for(
    recording: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its pictures are checked as a device's are: here the world's place is taken by a recording of another size."""
    replaced = ReplaySource(recording, 0.01, loop=True)
    monkeypatch.setattr("stillframe_client.jaco2.cameras.mujoco.make", lambda *_: replaced)
    camera = make_camera("front", CameraSettings(kind="mujoco", width=80, height=80), BridgeSettings())
    with pytest.raises(CameraUnusable, match=r"a picture of 80 x 60 came .* expected 80 x 80, as its settings say"):
        camera.start(20)


def test_a_recording_that_is_not_there_is_refused_at_once(tmp_path: Path) -> None:
    """Starting does not wait for a folder to appear."""
    camera = make_camera("wrist", replayed(str(tmp_path / "missing")), BridgeSettings())
    with pytest.raises(CameraUnusable, match=r"^cameras\.wrist: .*missing is not there"):
        camera.start(60)


@pytest.mark.parametrize(
    ("settings", "text"),
    [
        ({"fps": 2.0, "age_s": 0.3}, r"^cameras\.front: age_s is 0\.3 and fps 2: .* expected age_s of at least 0\.5"),
        ({"kind": "opencv", "fourcc": "mjpeg"}, r"^cameras\.front: fourcc is 'mjpeg'"),
        ({"kind": "realsense", "fps": 12.5}, r"^cameras\.front: fps is 12\.5"),
    ],
    ids=["older than a period", "fourcc", "rate"],
)
def test_settings_that_do_not_go_together_are_refused(settings: dict[str, Any], text: str) -> None:
    """Before any device is looked for, by the camera's name."""
    with pytest.raises(CameraUnusable, match=text):
        make_camera("front", CameraSettings(**{"kind": "replay", **settings}), BridgeSettings())


def test_a_first_frame_that_cannot_be_written_is_said(recording: Path) -> None:
    """The text names the file and the reason."""
    camera = make_camera("front", replayed(str(recording)), BridgeSettings())
    camera.start(20)
    frame = camera.latest()
    camera.close()
    with pytest.raises(CameraError, match=r"the first frame cannot be written to .*first\.png"):
        save_first_frame(frame, recording / "0.png" / "first.png")
