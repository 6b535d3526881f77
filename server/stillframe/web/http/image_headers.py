"""Read a JPEG's or PNG's size from its header, and check that decoding costs no more than that size implies.

Knows no pixels: nothing is decoded. Pillow walks a file's parts in Python and decodes every scan of a JPEG, so a file
of a few megabytes could occupy a thread for minutes.
"""

from __future__ import annotations

import struct

from stillframe.errors import Unprocessable

PNG_HEAD = b"\x89PNG\r\n\x1a\n"
JPEG_HEAD = b"\xff\xd8\xff"
MAX_PARTS = 4096  # segments in front of a JPEG's picture, chunks of a PNG: 16 MiB in libpng's chunks of 8 KiB are 2048
MAX_SCANS = 100  # of a JPEG: encoders write one, or about ten if it is progressive

_SIZES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}  # the start-of-frame markers
_BARE = frozenset(range(0xD0, 0xDA)) | {0x01, *range(0xF0, 0xFE)}  # markers without a length, as Pillow has it
_SCAN = 0xDA
_SCAN_MARK = b"\xff\xda"


def peek_size(data: bytes) -> tuple[int, int]:
    """Read (height, width); raise Unprocessable if it is neither a PNG nor a JPEG, or is made of too many parts."""
    if data.startswith(PNG_HEAD) and data[12:16] == b"IHDR" and len(data) >= 24:
        width, height = struct.unpack_from(">II", data, 16)
        _check_chunks(data)
        return height, width
    size = _peek_jpeg(data) if data.startswith(JPEG_HEAD) else None
    if size is None:
        raise Unprocessable("image-invalid", "The bytes are neither a JPEG nor a PNG file.")
    return size


def _check_chunks(data: bytes) -> None:
    """Walk a PNG's chunks (length, type, data, checksum) to its end."""
    at, chunks = len(PNG_HEAD), 0
    while at + 8 <= len(data) and data[at + 4 : at + 8] != b"IEND":
        chunks += 1
        if chunks > MAX_PARTS:
            raise _too_many(f"over {MAX_PARTS} chunks")
        at += 12 + int.from_bytes(data[at : at + 4], "big")


def _peek_jpeg(data: bytes) -> tuple[int, int] | None:
    """Walk the segments to the first scan (ITU-T T.81, B.2.2): marker, length; in the frame's precision and size."""
    size: tuple[int, int] | None = None
    at = 2
    for _ in range(MAX_PARTS):
        if at + 9 > len(data) or data[at] != 0xFF:
            return None
        marker = data[at + 1]
        if marker == _SCAN:
            _check_scans(data)
            return size
        if marker in _SIZES:
            if size is not None:
                return None  # two frames: ambiguous size
            height, width = struct.unpack_from(">HH", data, at + 5)
            size = (height, width)
        at += _step(data, at, marker)
    raise _too_many(f"over {MAX_PARTS} segments")


def _step(data: bytes, at: int, marker: int) -> int:
    if marker == 0xFF:  # a fill byte
        return 1
    if marker in _BARE:
        return 2
    (length,) = struct.unpack_from(">H", data, at + 2)
    return 2 + int(length)


def _check_scans(data: bytes) -> None:
    """Inside a scan the mark cannot occur; thumbnails and such may have a few of their own."""
    if data.count(_SCAN_MARK) > MAX_SCANS:
        raise _too_many(f"over {MAX_SCANS} scans")


def _too_many(what: str) -> Unprocessable:
    return Unprocessable("image-invalid", f"The picture's file is made of {what}; encode it again, in fewer.")
