"""What a recording keeps of a camera's picture: all of it, a JPEG of it, only a hash, or only its size.

Knows pixels and files of one picture; no frame and no session.

    png     lossless: what the policy saw, to the bit
    jpeg    about a tenth of that; pixels differ a little from those the policy saw
    hash    SHA-256 of the pixels: two equal pictures can be told, none can be seen
    none    names of cameras and sizes of pictures
"""

from __future__ import annotations

import hashlib
import io
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

import numpy as np
from PIL import Image

from stillframe.domain import Image as Picture
from stillframe.errors import StillframeError

PictureFormat = Literal["none", "hash", "jpeg", "png"]
PICTURE_FORMATS: tuple[PictureFormat, ...] = get_args(PictureFormat)
SUFFIXES = {"png": "png", "jpeg": "jpg"}  # of the formats that have a file
PNG_LEVEL = 1  # a tenth of the time of the default, for a few percent of size
JPEG_QUALITY = 90  # colours at full resolution


class RecordingError(StillframeError):
    """A file of a recording that is damaged or foreign; the text names it and says what is wrong."""


@dataclass(frozen=True)
class PictureEntry:
    """One camera's picture, to check its file by."""

    camera: str
    height: int
    width: int
    crc32: int | None = None  # of a PNG's pixels, or of a JPEG's bytes; None: there is no file
    kept: PictureFormat = "png"
    sha256: str | None = None  # of the pixels; None: the format is not hash


def encode_picture(camera: str, picture: Picture, kept: PictureFormat) -> tuple[PictureEntry, bytes | None]:
    """Picture [height, width, 3] -> its entry, and its file's content, where the format has one."""
    height, width = picture.shape[:2]
    if kept == "none":
        return PictureEntry(camera, height, width, kept=kept), None
    if kept == "hash":
        return PictureEntry(camera, height, width, kept=kept, sha256=_sha256(picture)), None
    if kept == "png":
        return PictureEntry(camera, height, width, _crc32(picture)), _file(picture, "PNG", compress_level=PNG_LEVEL)
    content = _file(picture, "JPEG", quality=JPEG_QUALITY, subsampling=0)
    return PictureEntry(camera, height, width, zlib.crc32(content), kept), content


def picture_file(document: Path, index: int, kept: PictureFormat) -> Path:
    """The file of a frame's picture no. `index`, by the frame's JSON."""
    return document.with_suffix(f".{index}.{SUFFIXES[kept]}")


def read_picture(file: Path, entry: PictureEntry) -> Picture:
    """The picture [height, width, 3] that `entry` describes. Raises RecordingError."""
    form = entry.kept.upper()
    try:
        content = file.read_bytes()
        with Image.open(io.BytesIO(content), formats=[form]) as opened:
            if opened.size != (entry.width, entry.height) or opened.mode != "RGB":
                raise RecordingError(f"{file}: expected RGB, {entry.width} by {entry.height} pixels, as was recorded")
            picture: Picture = np.array(opened)
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:  # all that Pillow raises
        raise RecordingError(f"{file}: not a {form} that can be read: {error}") from error
    if (_crc32(picture) if entry.kept == "png" else zlib.crc32(content)) != entry.crc32:
        raise RecordingError(f"{file}: its pixels are not those that were recorded")
    return picture


def _file(picture: Picture, form: str, **options: int) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(picture).save(buffer, form, **options)
    return buffer.getvalue()


def _crc32(picture: Picture) -> int:
    return zlib.crc32(np.ascontiguousarray(picture).data)


def _sha256(picture: Picture) -> str:
    return hashlib.sha256(np.ascontiguousarray(picture).data).hexdigest()
