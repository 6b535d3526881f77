"""OpenCV where it is installed, and its pictures as RGB. Knows no device and no file."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from stillframe_client.jaco2.cameras.base import CameraUnusable

if TYPE_CHECKING:
    from stillframe_client.jaco2.cameras.base import Picture


def load_cv2() -> Any:
    """The module. Raises CameraUnusable where it is missing or broken."""
    try:
        return import_module("cv2")
    except ImportError as error:
        raise CameraUnusable(f"this needs OpenCV ({error}): pip install opencv-python-headless") from error


def as_rgb(cv2: Any, picture: Any) -> Picture:
    """What VideoCapture gave, BGR [height, width, 3], as a new RGB array. Raises CameraUnusable for any other shape."""
    if picture.ndim != 3 or picture.shape[2] != 3:
        raise CameraUnusable(
            f"OpenCV gave a picture of shape {picture.shape}; expected (height, width, 3): a colour camera, and a "
            "format that OpenCV decodes, such as fourcc = MJPG or YUYV"
        )
    rgb: Picture = cv2.cvtColor(picture, cv2.COLOR_BGR2RGB)
    return rgb
