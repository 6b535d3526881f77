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


@pytest.mark.parametrize(
    ("shape", "advice"),
    [
        ((1, 8, 9, 3), r"batch of one: pass picture\[0\]"),
        ((8, 9), "grey.*np.repeat"),
        ((8, 9, 1), "grey.*np.repeat"),
        ((8, 9, 4), r"alpha: pass picture\[\.\.\., :3\]"),
        ((3, 8, 9), r"channels first: pass picture.transpose\(1, 2, 0\)"),
        ((0, 8, 3), "no pixels"),
        ((8, 0, 3), "no pixels"),
        ((8, 9, 2), "expected"),
        ((2, 8, 9, 3), "expected"),
    ],
)
@pytest.mark.parametrize("encoding", ["raw", "png", "jpeg"])
def test_other_shapes(shape, advice, encoding):
    """None is turned into a picture in silence; the text says what it is and what to pass."""
    with pytest.raises(ValueError, match=advice):
        encode_picture(np.zeros(shape, np.uint8), encoding)


@pytest.mark.parametrize(
    ("picture", "words"),
    [
        (np.ones((8, 9, 3), np.float32), r"float32.*255 \* picture"),
        (np.full((8, 9, 3), 255.0), r"float64.*from 255 to 255.*astype\(np.uint8\)"),
        (np.full((8, 9, 3), np.nan), "float64"),
        (np.full((8, 9, 3), -3), "int64.*from -3 to -3"),
        (np.zeros((8, 9, 3), bool), "bool"),
        (np.zeros((8, 9, 3), object), "object"),
        (PIL.Image.new("RGB", (9, 8)), r"np\.asarray\(picture\)"),
        (b"\xff\xd8\xff", "bytes"),
        (None, "NoneType"),
    ],
    ids=lambda value: value if isinstance(value, str) else type(value).__name__,
)
def test_other_numbers(picture, words):
    """Nothing is scaled, clipped or rounded in silence."""
    with pytest.raises(ValueError, match=words):
        encode_picture(picture, "raw")


def test_a_picture_that_is_too_wide_for_jpeg():
    """JPEG counts to 65,535."""
    with pytest.raises(ValueError, match=r"\(1, 70000, 3\) cannot be written as JPEG"):
        encode_picture(np.zeros((1, 70_000, 3), np.uint8), "jpeg")
