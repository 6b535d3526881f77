from __future__ import annotations

import base64
import io

import numpy as np
import PIL.Image
import pytest

from stillframe_client.images import encode_picture
from stillframe_client.wire import decode_array


def pixels_of(text):
    return np.asarray(PIL.Image.open(io.BytesIO(base64.b64decode(text))))


def test_raw_and_png_are_exact(picture):
    """Both lossless encodings hold the same pixels, also of a flipped view."""
    flipped = picture[::-1, ::-1]

    assert np.array_equal(decode_array(encode_picture(flipped, "raw")), flipped)
    assert np.array_equal(pixels_of(encode_picture(flipped, "png")), flipped)


def test_jpeg_quality_is_kept(picture):
    """A lower quality is smaller and further off."""
    fine, coarse = (encode_picture(picture, "jpeg", jpeg_quality=quality) for quality in (98, 20))

    assert len(coarse) < len(fine)
    assert np.abs(pixels_of(fine).astype(int) - picture).max() <= 3


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ([[1, 2, 3]], "list"),
        (np.zeros((8, 8, 3)), "float64"),
        (np.zeros((8, 8), np.uint8), r"\(8, 8\)"),
        (np.zeros((3, 8, 8), np.uint8), r"\(3, 8, 8\)"),
        (np.zeros((8, 8, 4), np.uint8), "RGB"),
    ],
)
def test_what_is_no_picture(value, words):
    """Anything but uint8 RGB is refused before it is sent, in words that say what it is."""
    with pytest.raises(ValueError, match=words):
        encode_picture(value, "raw")


def test_an_unknown_encoding(picture):
    """The choices are listed."""
    with pytest.raises(ValueError, match="raw, jpeg, png"):
        encode_picture(picture, "webp")
