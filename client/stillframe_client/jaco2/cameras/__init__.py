"""Cameras behind one protocol (base.py): a background reader, the newest frame, its age. Knows no policy and no arm.

Of a camera's settings `width` and `height` are checked on every picture, the simulated world's too, which draws at the
size that is asked for. A recording has a size of its own (OWN_SIZE): its first picture says it, and one of another size
is refused.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from stillframe_client.jaco2.cameras.accept import Expected
from stillframe_client.jaco2.cameras.base import CameraError, CameraUnusable, named
from stillframe_client.jaco2.cameras.reader import BackgroundCamera

if TYPE_CHECKING:
    from stillframe_client.jaco2.cameras.base import Camera, Source
    from stillframe_client.jaco2.settings import BridgeSettings, CameraSettings

OWN_SIZE = ("replay",)


def make_camera(name: str, settings: CameraSettings, bridge: BridgeSettings) -> Camera:
    """The camera that the settings name, not yet started; its kind's module is imported only here.

    Raises CameraUnusable for settings that do not go together, and what its kind raises.
    """
    try:
        _check(settings)
        source: Source = import_module(f"stillframe_client.jaco2.cameras.{settings.kind}").make(settings, bridge)
    except CameraError as error:
        raise named(name, error) from error
    size = None if settings.kind in OWN_SIZE else (settings.width, settings.height)
    return BackgroundCamera(name, source, settings, Expected(size, settings))


def _check(settings: CameraSettings) -> None:
    if settings.age_s * settings.fps < 1:
        raise CameraUnusable(
            f"age_s is {settings.age_s:g} and fps {settings.fps:g}: a picture would be too old before the next comes; "
            f"expected age_s of at least {1 / settings.fps:g}"
        )
