"""The fake librealsense proves what is asked of it and how its answers are taken, not that a camera answers so."""

from __future__ import annotations

import sys
from collections import deque
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from stillframe_client.jaco2.cameras import realsense
from stillframe_client.jaco2.cameras.base import CameraError, CameraUnusable
from stillframe_client.jaco2.settings import BridgeSettings, CameraSettings


class FakeFrame:
    """A colour frame over memory that librealsense uses again."""

    def __init__(self, memory: np.ndarray | None):
        self.memory = memory

    def __bool__(self) -> bool:
        return self.memory is not None

    def get_color_frame(self) -> FakeFrame:
        """Of a set of frames: itself."""
        return self

    def get_data(self) -> Any:
        """The memory."""
        return self.memory


class FakeLibrary:
    """Devices by serial number, and one pipeline that notes what it is told."""

    stream = SimpleNamespace(color="color")
    format = SimpleNamespace(rgb8="rgb8")
    camera_info = SimpleNamespace(serial_number="serial")

    def __init__(self, *serials: str):
        self.serials = serials
        self.told: list[Any] = []
        self.frames: deque[Any] = deque()
        self.refuses: str | None = None

    def context(self) -> Any:
        """What is plugged in."""
        devices = [SimpleNamespace(get_info={"serial": serial}.get) for serial in self.serials]
        return SimpleNamespace(query_devices=lambda: devices)

    def config(self) -> Any:
        """Notes what is enabled."""
        return SimpleNamespace(
            enable_device=lambda serial: self.told.append(serial),
            enable_stream=lambda *stream: self.told.append(stream),
        )

    def pipeline(self, context: Any) -> Any:  # noqa: ARG002 -- librealsense's
        """Notes start and stop, and gives frames."""
        return SimpleNamespace(start=self._start, stop=lambda: self.told.append("stop"), wait_for_frames=self._wait)

    def _start(self, config: Any) -> None:  # noqa: ARG002
        if self.refuses:
            raise RuntimeError(self.refuses)
        self.told.append("start")

    def _wait(self, timeout_ms: int) -> FakeFrame:
        if not self.frames:
            raise RuntimeError(f"Frame didn't arrive within {timeout_ms}")
        return FakeFrame(self.frames.popleft())


@pytest.fixture
def library(monkeypatch: pytest.MonkeyPatch) -> FakeLibrary:
    """Two cameras are plugged in."""
    library = FakeLibrary("111", "222")
    monkeypatch.setitem(sys.modules, "pyrealsense2", library)  # type: ignore[arg-type]  # no module, and need not be
    return library


def make(source: str, **settings: Any) -> realsense.RealSenseSource:
    """A source of the settings."""
    return realsense.make(CameraSettings(source=source, **settings), BridgeSettings())


def test_the_camera_of_the_serial_number_gives_rgb(library: FakeLibrary) -> None:
    """Colour alone is streamed, as rgb8, at the size and rate of the settings; closing stops it once."""
    source = make("222", width=848, height=480, fps=15.0)
    source.open()
    source.close()
    source.close()

    assert library.told == ["222", ("color", 848, 480, "rgb8", 15), "start", "stop"]


def test_a_picture_is_a_copy(library: FakeLibrary) -> None:
    """The library's memory may change after the picture was read."""
    memory = np.full((4, 6, 3), 7, np.uint8)
    library.frames.append(memory)
    source = make("111")
    source.open()
    picture = source.read()
    memory[:] = 0

    assert picture.dtype == np.uint8
    assert np.array_equal(picture, np.full((4, 6, 3), 7))


@pytest.mark.parametrize("source", ["0", ""], ids=["zero", "empty"])
def test_the_only_camera_needs_no_number(library: FakeLibrary, source: str) -> None:
    """With one plugged in it is that one; with two, or none, the serial numbers are asked for and named."""
    with pytest.raises(CameraError, match="expected one RealSense, or its serial number as source; found: 111, 222"):
        make(source).open()
    library.serials = ()
    with pytest.raises(CameraError, match="found: none"):
        make(source).open()
    library.serials = ("333",)
    make(source).open()

    assert library.told[0] == "333"


def test_a_camera_that_is_not_there_is_named(library: FakeLibrary) -> None:
    """So are those that are; it may be plugged in later, so it is an error that may pass."""
    with pytest.raises(CameraError, match="RealSense 999 is not plugged in; found: 111, 222") as raised:
        make("999").open()

    assert not isinstance(raised.value, CameraUnusable)
    assert library.told == []


def test_a_mode_that_it_does_not_have_is_said(library: FakeLibrary) -> None:
    """With the library's reason, and what was asked for; nothing is left to stop."""
    library.refuses = "Couldn't resolve requests"
    source = make("111")
    with pytest.raises(CameraError, match=r"does not start at 640 x 480, 30 pictures a second \(Couldn't resolve"):
        source.open()
    source.close()

    assert "stop" not in library.told


def test_a_camera_that_gives_nothing_is_gone(library: FakeLibrary) -> None:
    """No frames within the time, or frames without colour."""
    source = make("111")
    source.open()
    with pytest.raises(CameraError, match="gives no picture: Frame didn't arrive within 2000"):
        source.read()
    library.frames.append(None)
    with pytest.raises(CameraError, match="frames without colour"):
        source.read()


def test_a_rate_is_a_whole_number() -> None:
    """The library takes no other, and rounding would be another rate."""
    with pytest.raises(CameraUnusable, match=r"fps is 29\.97; expected a whole number"):
        make("111", fps=29.97)


def test_without_the_library_the_text_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its wheel, and the system library that the wheel does not bring."""
    monkeypatch.setitem(sys.modules, "pyrealsense2", None)
    with pytest.raises(CameraUnusable, match=r"pip install pyrealsense2, and the system's libusb-1\.0-0"):
        make("111").open()
