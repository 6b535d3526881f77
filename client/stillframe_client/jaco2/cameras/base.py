"""What the bridge asks of a camera, and what a kind of camera has to bring.

Knows no device and no policy.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Picture = NDArray[np.uint8]  # [height, width, 3], RGB


class CameraError(Exception):
    """A camera that cannot be opened, has gone, or gives what was not asked of it; the text says what to do."""


class CameraUnusable(CameraError):
    """Trying again does not help: a package, a file or a setting is wrong, or a recording is over."""


class StaleFrame(CameraError):
    """The newest frame is too old, or the same one over and over: the arm holds until there is a new one."""


def named(camera: str, error: CameraError) -> CameraError:
    """A new error of the same kind whose text begins with the camera's name, as it stands in the configuration."""
    kind = next(kind for kind in (CameraUnusable, StaleFrame, CameraError) if isinstance(error, kind))
    return kind(f"cameras.{camera}: {error}")


@dataclass(frozen=True, eq=False)
class Frame:
    """One picture as the policy is to see it."""

    picture: Picture  # contiguous and read-only: more than one thread has it
    seq: int  # grows with each frame that the camera gave
    time_s: float  # time.monotonic when it arrived here


class Source(Protocol):
    """A kind of camera: opened, read and closed by one background thread, and opened again where it went away."""

    def open(self) -> None:
        """Open it. Raises CameraError, and CameraUnusable where trying again is of no use."""
        ...

    def read(self) -> Picture:
        """Wait for the next picture as the device gives it, RGB; the array is the caller's, and not written again.

        Raises CameraError where the device is gone or gives nothing for two seconds: closing waits for this call.
        """
        ...

    def close(self) -> None:
        """Let go of it. Nothing to do where it is not open."""
        ...


class Camera(Protocol):
    """A camera that is read in the background."""

    def start(self, timeout_s: float) -> None:
        """Return once there is a first frame of the right size. Raises CameraError, and nothing is left open then."""
        ...

    def latest(self) -> Frame:
        """The newest frame, cropped, rotated and resized. Never waits. Raises StaleFrame and CameraError."""
        ...

    def close(self) -> None:
        """Stop reading: at once, or within seconds where the device does not answer."""
        ...
