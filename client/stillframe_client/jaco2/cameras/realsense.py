"""The colour camera of an Intel RealSense, by its serial number, through librealsense's own wheel.

Knows no depth. Never run with a device by this project: its calls are librealsense's documented ones.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any, List

import numpy as np

from stillframe_client.jaco2.cameras.base import CameraError, CameraUnusable

if TYPE_CHECKING:
    from stillframe_client.jaco2.cameras.base import Picture
    from stillframe_client.jaco2.settings import BridgeSettings, CameraSettings

WAIT_MS = 2000
ONLY = ("", "0")  # sources that mean: the one that is plugged in


class RealSenseSource:
    """A Source (base.py)."""

    def __init__(self, settings: CameraSettings):
        self._asked = settings
        self._pipeline: Any = None

    def open(self) -> None:
        """Start the colour stream as rgb8. Raises CameraError, and CameraUnusable without librealsense."""
        rs = _load()
        context = rs.context()
        serial = self._serial(_serials(rs, context))
        asked, config, pipeline = self._asked, rs.config(), rs.pipeline(context)
        config.enable_device(serial)
        config.enable_stream(rs.stream.color, asked.width, asked.height, rs.format.rgb8, int(asked.fps))
        try:
            pipeline.start(config)
        except RuntimeError as error:
            raise CameraError(
                f"RealSense {serial} does not start at {asked.width} x {asked.height}, {int(asked.fps)} pictures a "
                f"second ({error}); expected a mode of its colour camera, a USB 3 port and no other program on it"
            ) from error
        self._pipeline = pipeline

    def read(self) -> Picture:
        """Wait for the next picture. Raises CameraError where none comes."""
        try:
            colour = self._pipeline.wait_for_frames(WAIT_MS).get_color_frame()
        except RuntimeError as error:
            raise CameraError(f"RealSense gives no picture: {error}") from error
        if not colour:
            raise CameraError("RealSense gives frames without colour; expected a model with a colour camera")
        return np.array(colour.get_data(), np.uint8)  # a copy: the SDK uses the memory again

    def close(self) -> None:
        """Stop the stream."""
        pipeline, self._pipeline = self._pipeline, None
        if pipeline is not None:
            pipeline.stop()

    def _serial(self, there: List[str]) -> str:
        wanted, seen = self._asked.source, ", ".join(there) or "none"
        if wanted in there:
            return wanted
        if wanted not in ONLY:
            raise CameraError(f"RealSense {wanted} is not plugged in; found: {seen}")
        if len(there) != 1:
            raise CameraError(f"expected one RealSense, or its serial number as source; found: {seen}")
        return there[0]


def make(settings: CameraSettings, bridge: BridgeSettings) -> RealSenseSource:  # noqa: ARG001 -- as every kind's
    """The camera of the settings. Raises CameraUnusable for a rate that is no whole number."""
    if settings.fps != int(settings.fps):
        raise CameraUnusable(f"fps is {settings.fps:g}; expected a whole number, as RealSense cameras have")
    return RealSenseSource(settings)


def _load() -> Any:
    try:
        return import_module("pyrealsense2")
    except ImportError as error:
        raise CameraUnusable(
            f"this needs librealsense ({error}): pip install pyrealsense2, and the system's libusb-1.0-0"
        ) from error


def _serials(rs: Any, context: Any) -> List[str]:
    return [str(device.get_info(rs.camera_info.serial_number)) for device in context.query_devices()]
