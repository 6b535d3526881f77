"""A camera that a ROS node publishes as sensor_msgs/CompressedImage, over rosbridge_server.

Knows no arm. The socket's thread keeps the newest message and decodes nothing, so pictures never pile up behind the
decoder; age counts from arrival, since the stamps are another machine's clock. A camera that is plugged in here lags
less: rosbridge writes each picture as text.
"""

from __future__ import annotations

import io
import threading
import time
from typing import TYPE_CHECKING, Any, Callable, Dict, Optional, Tuple

import numpy as np
import PIL.Image

from stillframe_client.jaco2.cameras.base import CameraError, CameraUnusable
from stillframe_client.jaco2.rosbridge.connection import Connection
from stillframe_client.jaco2.rosbridge.dial import RosbridgeError, address
from stillframe_client.jaco2.rosbridge.messages import message_type, read_picture

if TYPE_CHECKING:
    from stillframe_client.jaco2.cameras.base import Picture
    from stillframe_client.jaco2.settings import BridgeSettings, CameraSettings

OPEN_S = 3.0
GONE_S = 2.0  # without a picture
MOST_AGE_S = 0.1  # since arrival: an older one was waited for by no one
MAX_BYTES = 32 * 2**20
MOST_PIXELS = 8192  # of a side
FORMATS = ("JPEG", "PNG")
THROTTLE_SHARE = 0.8  # of the time between pictures: a stream that jitters loses none to the throttle


class RosSource:
    """A Source (base.py) of one topic."""

    def __init__(self, url: str, topic: str, kind: str, fps: float, clock: Callable[[], float] = time.monotonic):
        self._url, self._topic, self._kind, self._clock = url, topic, kind, clock
        self._throttle_ms = int(THROTTLE_SHARE * 1000 / fps)
        self._connection: Optional[Connection] = None
        self._changed = threading.Condition()
        self._newest: Optional[Tuple[Dict[str, Any], float]] = None  # the message, and when it arrived

    def open(self) -> None:
        """Connect and subscribe. Raises CameraError."""
        self._newest = None
        connection = self._connection = Connection(self._url, max_bytes=MAX_BYTES)
        connection.subscribe(self._topic, self._kind, self._take, self._throttle_ms)
        try:
            connection.open(OPEN_S)
        except RosbridgeError as error:
            raise CameraError(str(error)) from error

    def read(self) -> Picture:
        """Wait for the next picture [height, width, 3], RGB uint8. Raises CameraError after GONE_S without one."""
        ends_s, fault = self._clock() + GONE_S, ""
        message = self._next(ends_s)
        while message is not None:
            try:
                return decode(read_picture(message))
            except ValueError as error:
                fault = f" that could be read ({error})"
                message = self._next(ends_s)
        raise CameraError(f"no picture{fault} came on {self._topic} within {GONE_S:g} s{self._why()}")

    def close(self) -> None:
        """Hang up."""
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()

    def _take(self, message: Dict[str, Any]) -> None:
        with self._changed:
            self._newest = (message, self._clock())
            self._changed.notify()

    def _next(self, ends_s: float) -> Optional[Dict[str, Any]]:
        """The next message that has only just arrived; None: none by then."""
        with self._changed:
            while True:
                newest, self._newest = self._newest, None
                now_s = self._clock()
                if newest is not None and now_s - newest[1] <= MOST_AGE_S:
                    return newest[0]
                if now_s >= ends_s:
                    return None
                self._changed.wait(ends_s - now_s)

    def _why(self) -> str:
        connection = self._connection
        if connection is None or not connection.is_open:
            return "" if connection is None else f": {connection.why_closed}"
        said = "; rosbridge said: " + connection.errors[-1] if connection.errors else ""
        return f": does its node run, is it the topic that ends in /compressed?{said}"


def decode(data: bytes) -> Picture:
    """A JPEG or PNG as RGB uint8 [height, width, 3]. Raises ValueError for anything else."""
    try:
        with PIL.Image.open(io.BytesIO(data), formats=FORMATS) as image:
            if max(image.size) > MOST_PIXELS:
                raise ValueError(f"{image.width} x {image.height} pixels; expected at most {MOST_PIXELS} a side")
            return np.array(image.convert("RGB"))
    except (OSError, SyntaxError, PIL.Image.DecompressionBombError) as error:
        raise ValueError(f"{len(data)} bytes are no JPEG or PNG: {error}") from error


def make(settings: CameraSettings, bridge: BridgeSettings) -> RosSource:
    """The camera of the settings: `source` is the topic. Raises CameraUnusable."""
    topic = settings.source
    if not topic.startswith("/") or " " in topic:
        raise CameraUnusable(f"source is {topic!r}; expected a topic such as /camera/color/image_raw/compressed")
    try:
        address(bridge.arm.url)
    except RosbridgeError as error:
        raise CameraUnusable(str(error)) from error
    kind = message_type(bridge.arm.ros, "sensor_msgs", "CompressedImage")
    return RosSource(bridge.arm.url, topic, kind, settings.fps)
