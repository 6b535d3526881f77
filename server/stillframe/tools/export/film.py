"""MP4 files by PyAV: H.264, of pictures of one size, at a constant rate.

Knows pictures and time; no recording. Needs the extra export-video.
"""

from __future__ import annotations

from pathlib import Path
from types import TracebackType
from typing import Any, Self

import av
import numpy as np
from av.video.frame import PictureType

from stillframe.domain import Image
from stillframe.errors import StillframeError

CODEC, CODEC_NAME, PIXELS = "libx264", "h264", "yuv420p"  # what every player has
# Losses are hardly seen; a frame needs at most the one before it, and one that begins an episode none.
OPTIONS = {"crf": "18", "g": "2", "bf": "0", "forced-idr": "1"}


class Film:
    """One MP4, written as pictures come. A size with an odd side is made even by repeating its last row or column."""

    def __init__(self, file: Path, fps: int):
        """Raises StillframeError where the installed PyAV cannot write H.264."""
        self.file, self.fps = file, fps
        self.frames = 0
        self.nbytes = 0  # that the encoder has given so far
        self.size: tuple[int, int] | None = None  # height, width of the first picture, made even
        self._container = av.open(str(file), "w", format="mp4")
        self._stream: Any  # of pictures
        try:
            self._stream = self._container.add_stream(CODEC, fps, options=OPTIONS)
        except (av.FFmpegError, ValueError) as error:
            self._container.close()
            raise StillframeError(f"the installed PyAV has no {CODEC}: {error}; pip install --upgrade av") from error
        self._stream.pix_fmt = PIXELS

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    @property
    def seconds(self) -> float:
        """How long it is so far."""
        return self.frames / self.fps

    def add(self, picture: Image, *, begins: bool = False) -> None:
        """Add the next picture [height, width, 3]; one that `begins` an episode needs none before it.

        Raises StillframeError for one of another size.
        """
        even = _even(picture)
        height, width = even.shape[:2]
        if self.size is None:
            self.size = height, width
            self._stream.width, self._stream.height = width, height
        if self.size != (height, width):
            was = f"{self.size[1]} by {self.size[0]}"
            raise StillframeError(
                f"{self.file.name}: a picture is {width} by {height} pixels, those before it {was}; a film takes one "
                "size: export episodes of each camera's size by themselves"
            )
        frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(even), format="rgb24")
        frame.pts = self.frames
        if begins:
            frame.pict_type = PictureType.I
        self._write(frame)
        self.frames += 1

    def close(self) -> None:
        """Write what the encoder holds back."""
        if self.frames:
            self._write(None)
        self._container.close()

    def _write(self, frame: av.VideoFrame | None) -> None:
        packets = self._stream.encode(frame)
        self.nbytes += sum(packet.size for packet in packets)
        self._container.mux(packets)


def _even(picture: Image) -> Image:
    height, width = picture.shape[:2]
    if height % 2 == width % 2 == 0:
        return picture
    return np.pad(picture, ((0, height % 2), (0, width % 2), (0, 0)), mode="edge")
