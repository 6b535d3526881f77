"""The fake OpenCV proves what is asked of it and how its answers are taken, not that a device answers so."""

from __future__ import annotations

import sys
from collections import deque
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from stillframe_client.jaco2.cameras import opencv
from stillframe_client.jaco2.cameras.base import CameraError, CameraUnusable
from stillframe_client.jaco2.settings import BridgeSettings, CameraSettings

FOURCC, WIDTH, HEIGHT, FPS, BUFFERSIZE = 6, 3, 4, 5, 38  # OpenCV's numbers
MJPG = 0x47504A4D


class FakeError(Exception):
    """As cv2.error."""


class FakeDevice:
    """A VideoCapture: does what it is asked, but for what it insists on."""

    def __init__(self) -> None:
        self.there = True
        self.insists: dict[int, float] = {}
        self.set_to: list[tuple[int, float]] = []
        self.pictures: deque[Any] = deque()
        self.released = 0
        self.opened: list[Any] = []

    def isOpened(self) -> bool:  # noqa: N802, D102 -- OpenCV's name
        return self.there

    def set(self, name: int, value: float) -> bool:  # noqa: D102
        self.set_to.append((name, value))
        return name not in self.insists

    def get(self, name: int) -> float:  # noqa: D102
        return self.insists.get(name, float(dict(self.set_to).get(name, 0)))

    def read(self) -> tuple[bool, Any]:  # noqa: D102
        given = self.pictures.popleft() if self.pictures else None
        if isinstance(given, Exception):
            raise given
        return given is not None, given

    def release(self) -> None:  # noqa: D102
        self.released += 1


@pytest.fixture
def device(monkeypatch: pytest.MonkeyPatch) -> FakeDevice:
    """The device that a fake cv2 opens, whatever it is asked for."""
    device, cv2 = FakeDevice(), ModuleType("cv2")
    names = {
        "CAP_PROP_FOURCC": FOURCC,
        "CAP_PROP_FRAME_WIDTH": WIDTH,
        "CAP_PROP_FRAME_HEIGHT": HEIGHT,
        "CAP_PROP_FPS": FPS,
        "CAP_PROP_BUFFERSIZE": BUFFERSIZE,
        "COLOR_BGR2RGB": 4,
        "CAP_ANY": 0,
        "CAP_V4L2": 200,
        "error": FakeError,
        "VideoCapture": lambda source, backend: device.opened.append((source, backend)) or device,
        "VideoWriter_fourcc": lambda *letters: int.from_bytes("".join(letters).encode(), "little"),
        "cvtColor": lambda picture, how: picture[..., ::-1].copy() if how == 4 else None,
    }
    for name, value in names.items():
        setattr(cv2, name, value)
    monkeypatch.setitem(sys.modules, "cv2", cv2)
    return device


def make(**settings: Any) -> opencv.OpenCvSource:
    """A source of the settings."""
    return opencv.make(CameraSettings(**settings), BridgeSettings())


@pytest.mark.parametrize(
    ("source", "opened"),
    [
        ("0", (0, 200)),
        ("12", (12, 200)),
        ("/dev/video2", ("/dev/video2", 200)),
        ("rtsp://10.0.0.5/a", ("rtsp://10.0.0.5/a", 0)),
    ],
    ids=["first", "number", "path", "stream"],
)
def test_a_number_is_a_device_and_all_else_a_path(
    device: FakeDevice, monkeypatch: pytest.MonkeyPatch, source: str, opened: Any
) -> None:
    """A device's number is given as a number, and text for a path or an address; Linux' devices by V4L2."""
    monkeypatch.setattr(sys, "platform", "linux")
    make(source=source).open()
    monkeypatch.setattr(sys, "platform", "darwin")
    make(source=source).open()

    assert device.opened == [opened, (opened[0], 0)]


def test_the_mode_is_asked_for_pixel_format_first(device: FakeDevice) -> None:
    """Then size, rate, and a queue of one picture."""
    make(fourcc="MJPG", width=1280, height=720, fps=30.0).open()

    assert device.set_to == [(FOURCC, MJPG), (WIDTH, 1280), (HEIGHT, 720), (FPS, 30.0), (BUFFERSIZE, 1)]


def test_the_pixel_format_is_the_devices_where_none_is_asked_for(device: FakeDevice) -> None:
    """It is neither set nor looked at."""
    device.insists[FOURCC] = -1
    make().open()

    assert FOURCC not in dict(device.set_to)


@pytest.mark.parametrize(
    ("insists", "text"),
    [
        ({WIDTH: 1280, HEIGHT: 720}, "'0' gives 1280 x 720; expected 640 x 480, as set"),
        ({HEIGHT: 400}, "'0' gives 640 x 400; expected 640 x 480"),
        ({FPS: 10}, "'0' gives 10 pictures a second; expected 30, as set"),
        ({FOURCC: 0x56595559}, "pixel format 'YUYV'; expected 'MJPG'"),
        ({FOURCC: -1}, "pixel format '.*'; expected 'MJPG'"),
    ],
    ids=["size", "height", "rate", "format", "unknown format"],
)
def test_a_device_that_does_otherwise_is_refused(device: FakeDevice, insists: dict[int, float], text: str) -> None:
    """OpenCV's set() is no promise: what the device says that it does is compared."""
    device.insists = insists
    with pytest.raises(CameraUnusable, match=text):
        make(fourcc="MJPG").open()


@pytest.mark.parametrize("fps", [0, 29.97, 60], ids=["unknown", "nearly", "more"])
def test_a_rate_that_is_unknown_or_no_slower_will_do(device: FakeDevice, fps: float) -> None:
    """Some backends say 0; the newest picture of a faster camera is no older."""
    device.insists[FPS] = fps
    device.pictures.append(np.zeros((480, 640, 3), np.uint8))
    source = make()
    source.open()

    assert source.read().shape == (480, 640, 3)


def test_a_device_that_cannot_be_opened_may_come_later(device: FakeDevice) -> None:
    """The text says where to look; trying again may help."""
    device.there = False
    with pytest.raises(CameraError, match="OpenCV cannot open '0'; expected a camera that no other") as raised:
        make().open()

    assert not isinstance(raised.value, CameraUnusable)


def test_pictures_are_rgb(device: FakeDevice) -> None:
    """OpenCV gives blue first; the picture is the caller's own."""
    blue = np.zeros((480, 640, 3), np.uint8)
    blue[..., 0] = 255
    device.pictures.append(blue)
    source = make()
    source.open()
    picture = source.read()

    assert picture[0, 0].tolist() == [0, 0, 255]
    assert picture.flags.c_contiguous
    assert not np.shares_memory(picture, blue)


@pytest.mark.parametrize("given", [None, FakeError("select() timeout")], ids=["nothing", "error"])
def test_a_camera_that_gives_nothing_is_gone(device: FakeDevice, given: Exception | None) -> None:
    """OpenCV says so by False, or by an error of its own."""
    source = make()
    source.open()
    device.pictures.append(given)
    with pytest.raises(CameraError, match="'0'"):
        source.read()


def test_a_grey_camera_is_refused(device: FakeDevice) -> None:
    """A picture without colours, or one that OpenCV did not decode, is named by its shape."""
    source = make()
    source.open()
    device.pictures.append(np.zeros((1, 614400), np.uint8))
    with pytest.raises(CameraUnusable, match=r"a picture of shape \(1, 614400\); expected \(height, width, 3\)"):
        source.read()


def test_closing_releases_the_device_once(device: FakeDevice) -> None:
    """Also one that was refused; one that is not open needs nothing."""
    source = make(width=641)
    source.close()
    device.insists[WIDTH] = 640
    with pytest.raises(CameraUnusable):
        source.open()
    source.close()
    source.close()

    assert device.released == 1


def test_without_opencv_the_text_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    """The module is looked for when the camera is opened, and not before."""
    monkeypatch.setitem(sys.modules, "cv2", None)
    source = make()
    with pytest.raises(CameraUnusable, match="pip install opencv-python-headless"):
        source.open()


def test_a_file_is_no_camera(tmp_path: Any) -> None:
    """OpenCV would play it as fast as it can; the text names the kind that plays files."""
    file = tmp_path / "a.avi"
    file.touch()
    with pytest.raises(CameraUnusable, match=r"a\.avi is a file and no camera: kind = replay"):
        make(source=str(file))


@pytest.mark.parametrize("fourcc", ["MJP", "MJPEG", "MJP\u0261"], ids=["three", "five", "not ascii"])
def test_a_pixel_format_has_four_letters(fourcc: str) -> None:
    """Anything else is refused before a device is opened."""
    with pytest.raises(CameraUnusable, match=r"expected four letters such as MJPG"):
        make(fourcc=fourcc)


def test_a_video_that_opencv_wrote_is_read_frame_by_frame(tmp_path: Any) -> None:
    """With OpenCV itself: size, rate and format are read back, red stays red, and the end is a camera that is gone."""
    cv2 = pytest.importorskip("cv2", reason="needs OpenCV: pip install opencv-python-headless")
    file = tmp_path / "red.avi"
    video = cv2.VideoWriter(str(file), cv2.VideoWriter_fourcc(*"MJPG"), 10, (64, 48))
    for _ in range(3):
        video.write(np.full((48, 64, 3), (0, 0, 200), np.uint8))
    video.release()
    source = opencv.OpenCvSource(CameraSettings(source=str(file), width=64, height=48, fps=10.0, fourcc="MJPG"))
    source.open()
    pictures = [source.read() for _ in range(3)]
    with pytest.raises(CameraError, match="no picture any more"):
        source.read()
    source.close()

    assert all(picture.shape == (48, 64, 3) for picture in pictures)
    assert all(np.abs(picture.astype(int) - (200, 0, 0)).max() < 10 for picture in pictures)
    for wrong in ({"width": 32}, {"fps": 30.0}, {"fourcc": "YUYV"}):
        asked = {"source": str(file), "width": 64, "height": 48, "fps": 10.0, **wrong}
        with pytest.raises(CameraUnusable, match=r"; expected .*, as set"):
            opencv.OpenCvSource(CameraSettings(**asked)).open()
