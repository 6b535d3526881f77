"""Plays a folder of pictures, or a video, as a camera that gives `fps` pictures a second; at the end it begins again.

Knows no file (pictures.py). `source` is the path; `once:PATH` ends with the last picture. `width` and `height` are not
looked at. A run's folder will do: its JPEGs, named by number, are already turned, cropped and resized.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Callable, Iterator

from stillframe_client.jaco2.cameras.base import CameraUnusable
from stillframe_client.jaco2.cameras.pictures import opener

if TYPE_CHECKING:
    from stillframe_client.jaco2.cameras.base import Picture
    from stillframe_client.jaco2.settings import BridgeSettings, CameraSettings

ONCE = "once:"


class ReplaySource:
    """A Source (base.py). `wait` sleeps for so many seconds. After a delay it goes on from then: there is no burst."""

    def __init__(
        self,
        path: Path,
        period_s: float,
        *,
        loop: bool,
        camera: str = "",
        clock: Callable[[], float] = time.monotonic,
        wait: Callable[[float], Any] = time.sleep,
    ):
        self._path, self._period_s, self._loop, self._camera = path, period_s, loop, camera
        self._clock, self._wait = clock, wait
        self._begin: Callable[[], Iterator[Picture]] = lambda: iter(())
        self._pictures: Iterator[Picture] = iter(())
        self._due_s = 0.0

    def open(self) -> None:
        """Look what is there. Raises CameraUnusable."""
        self._begin = opener(self._path, self._camera)
        self._pictures = self._begin()
        self._due_s = self._clock()

    def read(self) -> Picture:
        """Wait until the next picture is due. Raises CameraUnusable for what is no picture, and after the last one."""
        picture = next(self._pictures, None)
        if picture is None and self._loop:
            self._pictures = self._begin()
            picture = next(self._pictures, None)
        self._pace()  # also at the end: the last picture is there for as long as any
        if picture is None:
            raise CameraUnusable(f"{self._path} holds no picture" if self._loop else f"{self._path} is at its end")
        return picture

    def _pace(self) -> None:
        now_s = self._clock()
        if now_s < self._due_s:
            self._wait(self._due_s - now_s)
        self._due_s = max(self._due_s, now_s) + self._period_s

    def close(self) -> None:
        """Let go of the file."""
        close = getattr(self._pictures, "close", None)
        if close:
            close()
        self._pictures = iter(())


def make(settings: CameraSettings, bridge: BridgeSettings) -> ReplaySource:
    """The recording of the settings; of a run with several cameras, the pictures of the one that is named like this."""
    once = settings.source.startswith(ONCE)
    path = Path(settings.source[len(ONCE) :] if once else settings.source)
    camera = next((name for name, camera in bridge.cameras.items() if camera is settings), "")
    return ReplaySource(path, 1 / settings.fps, loop=not once, camera=camera)
