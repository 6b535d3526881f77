"""The `mujoco` camera: pictures of a simulated world that runs in another process, over its Unix socket.

Knows no physics and draws nothing. Pictures are raw RGB, square, as the world's camera sees the scene when it is drawn.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Optional

import numpy as np

from stillframe_client.jaco2.cameras.base import CameraError
from stillframe_client.jaco2.world import wire

if TYPE_CHECKING:
    import socket

    from stillframe_client.jaco2.cameras.base import Picture
    from stillframe_client.jaco2.settings import BridgeSettings, CameraSettings

CONNECT_S = 10.0
PICTURE_S = 2.0  # a world that draws nothing for so long is gone


class WorldCamera:
    """One camera of a world: opened, read and closed by one thread."""

    def __init__(self, settings: CameraSettings, path: str):
        self._settings, self._path = settings, path
        self._end: Optional[socket.socket] = None

    def open(self) -> None:
        """Reach the world. Raises CameraError."""
        chosen = self._settings
        if chosen.width != chosen.height:
            raise CameraError(f"the world's pictures are square; expected width {chosen.width} and height to be equal")
        if not self._path:
            raise CameraError("arm.socket is empty: expected the path of a simulated world's socket")
        hello = wire.Hello(wire.CAMERA, chosen.source, chosen.width, chosen.fps)
        try:
            self._end = wire.dial(self._path, hello, CONNECT_S)
        except wire.WorldError as error:
            raise CameraError(str(error)) from error
        self._end.settimeout(PICTURE_S)

    def read(self) -> Picture:
        """Wait for the next picture [px, px, 3]. Raises CameraError where the world is gone."""
        try:
            height, width, nbytes = wire.read_picture_head(self._receive())
            body = b""
            while len(body) < nbytes:
                body += self._receive()
        except (OSError, ValueError) as error:
            raise CameraError(
                f"no picture of camera {self._settings.source!r}: {error}; the world knows front and wrist, from 16 to "
                "1024 pixels and up to 60 a second"
            ) from error
        return np.frombuffer(body, np.uint8).reshape(height, width, 3)

    def close(self) -> None:
        """Hang up."""
        if self._end is not None:
            self._end.close()
            self._end = None

    def _receive(self) -> bytes:
        if self._end is None:
            raise ValueError("the camera is not open")
        packet = self._end.recv(wire.LONGEST)
        if not packet:
            raise ValueError("the world hung up")
        return packet


def make(settings: CameraSettings, bridge: BridgeSettings) -> WorldCamera:
    """The camera of the settings, in the world that the arm is in."""
    return WorldCamera(settings, bridge.arm.socket)
