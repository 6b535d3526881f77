"""All cameras of a run: opened together, read together; a frame is one picture of each.

Knows no policy.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Dict, Mapping

from stillframe_client.jaco2.cameras import make_camera

if TYPE_CHECKING:
    from types import TracebackType
    from typing import Optional

    from stillframe_client.jaco2.cameras.base import Camera, Frame
    from stillframe_client.jaco2.settings import BridgeSettings

START_S = 15.0


class Eyes:
    """The cameras of the settings."""

    def __init__(self, settings: BridgeSettings):
        self._cameras: Mapping[str, Camera] = {
            name: make_camera(name, camera, settings) for name, camera in settings.cameras.items()
        }

    def start(self) -> None:
        """Return once each has a first frame. Raises CameraError."""
        for camera in self._cameras.values():
            camera.start(START_S)

    def latest(self) -> Dict[str, Frame]:
        """The newest frame of each. Raises StaleFrame and CameraError."""
        return {name: camera.latest() for name, camera in self._cameras.items()}

    def close(self) -> None:
        """Stop reading."""
        for camera in self._cameras.values():
            camera.close()

    def __enter__(self) -> Eyes:
        return self

    def __exit__(
        self, kind: Optional[type], error: Optional[BaseException], traceback: Optional[TracebackType]
    ) -> None:
        self.close()


def observed_s(frames: Mapping[str, Frame]) -> float:
    """When the oldest of a frame's pictures arrived."""
    return min(frame.time_s for frame in frames.values())
