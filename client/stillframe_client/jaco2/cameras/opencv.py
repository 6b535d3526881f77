"""A camera that OpenCV opens: a device number, a path such as /dev/video0, or the address of a stream.

Knows no time: that old pictures do not pile up is the background reader's doing, which reads as fast as they come. The
device's own queue is asked to hold one picture (not every backend does). Files belong to `replay`, which paces them.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stillframe_client.jaco2.cameras.base import CameraError, CameraUnusable
from stillframe_client.jaco2.cameras.cv import as_rgb, load_cv2

if TYPE_CHECKING:
    from stillframe_client.jaco2.cameras.base import Picture
    from stillframe_client.jaco2.settings import BridgeSettings, CameraSettings

SLOWER = 0.9  # a device that promises less than this share of the asked rate is refused


class OpenCvSource:
    """A Source (base.py). What was asked of the device is read back from it, for it may silently do otherwise."""

    def __init__(self, settings: CameraSettings):
        self._asked = settings
        self._cv2: Any = None
        self._device: Any = None

    def open(self) -> None:
        """Open the device in the mode of the settings.

        Raises CameraUnusable where it has another mode or OpenCV is missing, CameraError where it cannot be opened.
        """
        self._cv2 = load_cv2()
        source = self._asked.source
        self._device = self._cv2.VideoCapture(int(source) if source.isdigit() else source, _backend(self._cv2, source))
        if not self._device.isOpened():
            raise CameraError(
                f"OpenCV cannot open {source!r}; expected a camera that no other program holds: see `ls /dev/video*`, "
                "and whether this user may read it (group video)"
            )
        self._ask()
        self._verify()

    def read(self) -> Picture:
        """Wait for the next picture. Raises CameraError where none comes."""
        try:
            there, picture = self._device.read()
        except self._cv2.error as error:
            raise CameraError(f"OpenCV cannot read {self._asked.source!r}: {error}") from error
        if not there:
            raise CameraError(f"{self._asked.source!r} gives no picture any more: is it still plugged in?")
        return as_rgb(self._cv2, picture)

    def close(self) -> None:
        """Release the device."""
        if self._device is not None:
            self._device.release()
        self._device = None

    def _ask(self) -> None:
        """The pixel format first: which sizes and rates there are depends on it."""
        cv2, asked = self._cv2, self._asked
        if asked.fourcc:
            self._device.set(cv2.CAP_PROP_FOURCC, cv2.VideoWriter_fourcc(*asked.fourcc))
        self._device.set(cv2.CAP_PROP_FRAME_WIDTH, asked.width)
        self._device.set(cv2.CAP_PROP_FRAME_HEIGHT, asked.height)
        self._device.set(cv2.CAP_PROP_FPS, asked.fps)
        self._device.set(cv2.CAP_PROP_BUFFERSIZE, 1)

    def _verify(self) -> None:
        asked, name = self._asked, repr(self._asked.source)
        modes = "v4l2-ctl --list-formats-ext shows what it has"
        width, height = (int(self._get(side)) for side in ("FRAME_WIDTH", "FRAME_HEIGHT"))
        if (width, height) != (asked.width, asked.height):
            raise CameraUnusable(
                f"{name} gives {width} x {height}; expected {asked.width} x {asked.height}, as set: {modes}"
            )
        if asked.fourcc and (given := _letters(int(self._get("FOURCC")))) != asked.fourcc:
            raise CameraUnusable(f"{name} gives the pixel format {given!r}; expected {asked.fourcc!r}, as set: {modes}")
        fps = self._get("FPS")
        if 0 < fps < SLOWER * asked.fps:  # 0: the backend does not know
            raise CameraUnusable(
                f"{name} gives {fps:g} pictures a second; expected {asked.fps:g}, as set: try fourcc = MJPG; {modes}"
            )

    def _get(self, name: str) -> float:
        return float(self._device.get(getattr(self._cv2, f"CAP_PROP_{name}")))


def make(settings: CameraSettings, bridge: BridgeSettings) -> OpenCvSource:  # noqa: ARG001 -- as every kind's
    """The camera of the settings. Raises CameraUnusable for a file, or a fourcc that is none."""
    if not settings.source.isdigit() and Path(settings.source).is_file():
        raise CameraUnusable(f"{settings.source} is a file and no camera: kind = replay plays it")
    if settings.fourcc and (len(settings.fourcc) != 4 or not settings.fourcc.isascii()):
        raise CameraUnusable(f"fourcc is {settings.fourcc!r}; expected four letters such as MJPG, or none")
    return OpenCvSource(settings)


def _backend(cv2: Any, source: str) -> int:
    """Linux' devices by V4L2: others that a distribution's OpenCV may prefer ignore the mode that is asked for."""
    a_device = source.isdigit() or source.startswith("/dev/")
    return int(cv2.CAP_V4L2 if a_device and sys.platform == "linux" else cv2.CAP_ANY)


def _letters(fourcc: int) -> str:
    return fourcc.to_bytes(4, "little", signed=fourcc < 0).decode("latin-1")
