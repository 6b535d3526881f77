"""Normalise base64 (URL-safe, unpadded, wrapped) and the orientation of a picture (EXIF).

Knows no field; input that cannot be normalised stays as it is, and fails where it is read.
"""

from __future__ import annotations

from typing import Any

import PIL.Image
from PIL.Image import Transpose

_WHITE = str.maketrans("-_", "+/", "\r\n\t")  # RFC 4648 section 5 to section 4; line breaks (RFC 2045) go
_ORIENTATION = 0x0112  # EXIF 2.3, 4.6.4
_TURNS = {
    2: Transpose.FLIP_LEFT_RIGHT,
    3: Transpose.ROTATE_180,
    4: Transpose.FLIP_TOP_BOTTOM,
    5: Transpose.TRANSPOSE,
    6: Transpose.ROTATE_270,
    7: Transpose.TRANSVERSE,
    8: Transpose.ROTATE_90,
}


def normalize_base64(text: Any) -> Any:
    """Return base64 in the standard alphabet, padded, without line breaks; other types unchanged."""
    if not isinstance(text, str):
        return text
    plain = text.translate(_WHITE).strip(" ")
    missing = -len(plain) % 4
    return plain + "=" * missing if missing < 3 and not plain.endswith("=") else plain


def apply_orientation(picture: PIL.Image.Image) -> PIL.Image.Image:
    """Rotate or flip a picture as its EXIF orientation says, as viewers and OpenCV do."""
    picture.load()  # a PNG may say it behind its pixels
    turn = _TURNS.get(_orientation(picture))
    return picture if turn is None else picture.transpose(turn)


def _orientation(picture: PIL.Image.Image) -> Any:
    """Return the EXIF orientation, None where EXIF is damaged."""
    exif = PIL.Image.Exif()
    try:
        exif.load(picture.info.get("exif") or b"")
        return exif.get(_ORIENTATION)
    except Exception:  # noqa: BLE001 (its parser may raise anything)
        return None
