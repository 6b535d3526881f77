from __future__ import annotations

import io
import struct

import numpy as np
import PIL.Image
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stillframe.errors import Unprocessable
from stillframe.web.http import image_headers
from stillframe.web.http.image_headers import MAX_PARTS, MAX_SCANS, PNG_HEAD, peek_size

EXAMPLES = settings(derandomize=True)
SIDES = st.integers(1, 60)
FRAMES = [0xC0, 0xC1, 0xC2, 0xC3, 0xC5, 0xC6, 0xC7, 0xC9, 0xCA, 0xCB, 0xCD, 0xCE, 0xCF]  # T.81, table B.1
SEGMENTS = [0xC4, 0xCC, 0xDB, 0xDD, 0xDE, 0xE0, 0xE1, 0xEE, 0xFE]  # tables, application data, a comment: with a length
BARE = [0x01, *range(0xD0, 0xD8), 0xF0, 0xFD]  # without one


def size_of(data: bytes) -> tuple[int, int] | None:
    """The size that is read; None where the file is refused. Anything else but a refusal fails the test."""
    try:
        return peek_size(data)
    except Unprocessable:
        return None


def pillows(data: bytes) -> tuple[int, int]:
    """The size that Pillow finds."""
    with PIL.Image.open(io.BytesIO(data), formats=("JPEG", "PNG")) as picture:
        return picture.height, picture.width


def saved(height: int, width: int, kind: str, mode: str = "RGB", **options: object) -> bytes:
    """A picture as Pillow writes it."""
    sink = io.BytesIO()
    noise = np.random.default_rng(height).integers(0, 256, (height, width, 3), np.uint8)
    PIL.Image.fromarray(noise).convert(mode).save(sink, kind, **options)
    return sink.getvalue()


def segment(marker: int, content: bytes, fill: int = 0) -> bytes:
    """Fill bytes, a marker, its length, what it holds."""
    return b"\xff" * fill + struct.pack(">BBH", 0xFF, marker, 2 + len(content)) + content


def jpeg(marker: int, height: int, width: int, before: bytes = b"", scans: int = 1) -> bytes:
    """A JPEG without a picture: what comes before its frame, the frame, as many scans as are asked for."""
    frame = segment(marker, struct.pack(">BHHB", 8, height, width, 1) + bytes(3))
    return b"\xff\xd8" + before + frame + segment(0xDA, bytes(6)) * scans + b"\x00\xff\x00\xff\xd9"


def png(height: int, width: int, extra: int = 0) -> bytes:
    """A PNG without a picture, with so many chunks beside its header."""
    header = struct.pack(">I4sIIBBBBBI", 13, b"IHDR", width, height, 8, 2, 0, 0, 0, 0)
    chunk = struct.pack(">I4s", 5, b"tEXt") + b"IENDx" + bytes(4)
    return PNG_HEAD + header + chunk * extra + struct.pack(">I4sI", 0, b"IEND", 0)


def too_many(data: bytes) -> bool:
    """Whether the file is refused, and because of the number of its parts."""
    try:
        peek_size(data)
    except Unprocessable as error:
        return "encode it again, in fewer" in error.detail
    return False


@EXAMPLES
@given(
    height=SIDES,
    width=SIDES,
    kind=st.sampled_from([("JPEG", "RGB"), ("JPEG", "L"), ("PNG", "RGB"), ("PNG", "RGBA")]),
    progressive=st.booleans(),
    quality=st.integers(1, 95),
)
def test_the_size_is_that_which_pillow_finds(
    height: int,
    width: int,
    kind: tuple[str, str],
    progressive: bool,  # noqa: FBT001 (drawn)
    quality: int,
) -> None:
    """Of whatever Pillow writes: baseline and progressive, grey and colour, of any quality."""
    options = {"progressive": progressive, "quality": quality} if kind[0] == "JPEG" else {"optimize": progressive}
    data = saved(height, width, *kind, **options)

    assert peek_size(data) == (height, width) == pillows(data)


@EXAMPLES
@given(
    parts=st.lists(st.tuples(st.sampled_from(SEGMENTS + BARE), st.binary(max_size=40), st.integers(0, 5)), max_size=8),
    marker=st.sampled_from(FRAMES),
    height=st.integers(0, 65535),
    width=st.integers(0, 65535),
)
def test_whatever_comes_before_a_frame_is_passed_over(
    parts: list[tuple[int, bytes, int]], marker: int, height: int, width: int
) -> None:
    """Segments by their length, whatever is in them, markers that have none, and fill bytes before each."""
    before = b"".join(
        b"\xff" * fill + bytes([0xFF, kind]) if kind in BARE else segment(kind, content, fill)
        for kind, content, fill in parts
    )

    assert peek_size(jpeg(marker, height, width, before)) == (height, width)


@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
@pytest.mark.parametrize("progressive", [False, True])
def test_a_file_may_end_at_any_byte(kind: str, progressive: bool) -> None:  # noqa: FBT001 (a parameter)
    """Before its header is whole it is refused, later its size is right: nothing else happens at any length."""
    options = {"progressive": progressive, "comment": b"a comment"} if kind == "JPEG" else {}
    data = saved(9, 17, kind, **options)
    sizes = [size_of(data[:length]) for length in range(len(data) + 1)]
    known = data.index(b"\xff\xda") if kind == "JPEG" else 23  # the first scan; the last byte of the width

    assert sizes[: known + 1] == [None] * (known + 1)
    assert sizes[known + 9 :] == [(9, 17)] * (len(data) + 1 - known - 9)
    assert sizes[-1] == (9, 17)


@EXAMPLES
@given(data=st.binary(max_size=80), head=st.sampled_from([PNG_HEAD, PNG_HEAD + b"\0\0\0\rIHDR", b"\xff\xd8\xff"]))
def test_bytes_of_no_sense_are_refused_or_have_a_size(data: bytes, head: bytes) -> None:
    """Behind a head that is right nothing breaks the reader."""
    size = size_of(head + data)

    assert size is None or all(0 <= side < 2**32 for side in size)


def test_a_jpeg_may_have_so_many_scans() -> None:
    """As many as may be, and not one more: Pillow decodes each of them over the whole picture."""
    assert peek_size(jpeg(0xC2, 9, 17, scans=MAX_SCANS)) == (9, 17)
    assert too_many(jpeg(0xC2, 9, 17, scans=MAX_SCANS + 1))


def test_a_png_may_have_so_many_chunks() -> None:
    """Its header and end among them; a chunk is passed over by its length, whatever it holds."""
    assert peek_size(png(9, 17, MAX_PARTS - 1)) == (9, 17)
    assert too_many(png(9, 17, MAX_PARTS))


def test_what_comes_behind_a_pngs_end_is_no_chunk(monkeypatch: pytest.MonkeyPatch) -> None:
    """A camera's data behind the last chunk is not walked."""
    monkeypatch.setattr(image_headers, "MAX_PARTS", 3)

    assert peek_size(png(9, 17, 2) + bytes(1000)) == (9, 17)
    assert too_many(png(9, 17, 3))


@pytest.mark.parametrize("before", [segment(0xE0, b""), b"\xff\xd0", b"\xff"], ids=["segments", "bare", "fill"])
def test_a_jpeg_may_have_so_many_segments(before: bytes) -> None:
    """In front of its first scan, each with a length, without one, or of fill: Pillow walks them in Python."""
    assert peek_size(jpeg(0xC0, 9, 17, before * (MAX_PARTS - 2))) == (9, 17)
    assert too_many(jpeg(0xC0, 9, 17, before * MAX_PARTS))


@pytest.mark.parametrize("marker", [0xC0, 0xC2])
def test_a_second_frame_makes_a_size_uncertain(marker: int) -> None:
    """Whose would it be? Such a file is refused, the same size or not."""
    second = segment(marker, struct.pack(">BHHB", 8, 9, 17, 1) + bytes(3))

    assert size_of(jpeg(0xC0, 9, 17, second)) is None


def test_a_jpeg_without_a_frame_has_no_size() -> None:
    """A scan of nothing."""
    assert size_of(b"\xff\xd8" + segment(0xE0, b"abc") + segment(0xDA, bytes(20))) is None
