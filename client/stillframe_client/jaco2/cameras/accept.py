"""Whether a picture is what was asked of the camera: its type, its size, and that the crop leaves some of it.

Knows no device and no time.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Optional, Tuple

from stillframe_client.images import check_picture
from stillframe_client.jaco2.cameras.base import CameraUnusable
from stillframe_client.jaco2.cameras.prepare import crop_box

if TYPE_CHECKING:
    from stillframe_client.jaco2.settings import CameraSettings


class Expected:
    """A camera's pictures are of one size: the settings', or that of the first one where `size` is None."""

    def __init__(self, size: Optional[Tuple[int, int]], settings: CameraSettings):
        self._size = size  # width, height
        self._first = size is None
        self._settings = settings

    def check(self, picture: Any) -> None:
        """Raise CameraUnusable unless it is a uint8 RGB picture [height, width, 3] of the size, and can be cropped."""
        try:
            check_picture(picture)
        except ValueError as error:
            raise CameraUnusable(f"the camera's driver is wrong here: {error}") from error
        width, height = picture.shape[1::-1]
        self._size = self._size or (width, height)
        if (width, height) != self._size:
            raise CameraUnusable(f"a picture of {width} x {height} came (width x height); {self._expectation()}")
        self._check_crop(width, height)

    def _expectation(self) -> str:
        size = "{} x {}".format(*self._size or ())
        if self._first:
            return f"expected {size} as the first one was: pictures of one source have one size"
        return f"expected {size}, as its settings say: set width and height to what comes, or the camera to them"

    def _check_crop(self, width: int, height: int) -> None:
        turned = (height, width) if self._settings.rotate in (90, 270) else (width, height)
        try:
            crop_box(self._settings.crop, *turned)
        except ValueError as error:
            raise CameraUnusable(str(error)) from error
