from __future__ import annotations

import base64
import io
import struct
import warnings
import zlib

import numpy as np
import PIL.Image
import pytest
from PIL.PngImagePlugin import PngInfo

from stillframe.errors import RequestError
from stillframe.web.http import images
from stillframe.web.http.image_headers import peek_size
from stillframe.web.http.images import prepare_pillow, read_picture
from stillframe.web.http.limits import Limits
from stillframe.web.http.msgpack_values import UnsupportedValue
from stillframe_client.wire import encode_array


def png_head(height, width):
    """The start of a PNG that promises a size and holds nothing."""
    header = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    head = b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + header + struct.pack(">I", zlib.crc32(header))
    return base64.b64encode(head).decode()


def refusal(value, **limits):
    with pytest.raises(RequestError) as caught:
        read_picture(value, Limits(**limits), "/image")
    assert caught.value.pointer == "/image"
    return caught.value.code


@pytest.fixture
def no_decoding(monkeypatch):
    """Make it a failure to reach Pillow at all."""
    monkeypatch.setattr(PIL.Image, "open", lambda *_, **__: pytest.fail("Pillow saw a picture over the limits"))


@pytest.mark.parametrize("prefix", ["", "data:image/png;base64,"], ids=["bare", "data-uri"])
def test_png_is_exact(encoded, picture, prefix):
    """A PNG arrives pixel for pixel, bare or as a data: URI."""
    assert np.array_equal(read_picture(prefix + encoded("PNG"), Limits(), ""), picture)


def test_jpeg_is_near(encoded):
    """A JPEG of a smooth picture arrives within what its quality loses."""
    smooth = np.add.outer(np.arange(32), np.arange(48)).astype(np.uint8)[..., None].repeat(3, axis=2)
    pixels = read_picture(encoded("JPEG", smooth, quality=95), Limits(), "")

    assert pixels.shape == (32, 48, 3)
    assert np.abs(pixels.astype(int) - smooth).max() <= 4


@pytest.mark.parametrize("options", [{"progressive": True}, {"optimize": True}, {"comment": b"x" * 300}])
def test_jpeg_sizes_are_found_in_every_layout(encoded, options):
    """The size is read from baseline and progressive files, whatever segments come first."""
    data = base64.b64decode(encoded("JPEG", **options))

    assert peek_size(data) == (12, 16)


@pytest.mark.parametrize(("mode", "channels"), [("L", 1), ("RGBA", 3)])
def test_grey_and_transparent_pictures_become_rgb(encoded, picture, mode, channels):
    """Grey is repeated, transparency is dropped."""
    pixels = read_picture(encoded("PNG", mode=mode), Limits(), "")

    assert pixels.shape == picture.shape
    assert len(np.unique(pixels[3, 5])) == channels


def test_raw_pixels_are_owned(picture):
    """A raw picture is a writable copy: nothing shares memory with the request."""
    pixels = read_picture(encode_array(picture), Limits(), "")
    pixels[0, 0] = 9

    assert pixels.base is None
    assert np.array_equal(pixels[1:], picture[1:])


def test_pixels_of_a_message_are_owned(picture):
    """An array that a binary message held is copied: it is writable, and the message may go."""
    message = picture.copy()
    message.flags.writeable = False
    for sent in (message, message[:, ::-1], message[:, ::2]):
        pixels = read_picture(sent, Limits(), "")

        assert np.array_equal(pixels, sent)
        assert not np.shares_memory(pixels, message)
        assert pixels.flags.c_contiguous
        assert pixels.flags.writeable


@pytest.mark.parametrize(
    ("sent", "code"),
    [
        (np.zeros((12, 16, 3), np.float32), "unsupported-dtype"),
        (np.zeros((12, 16, 3), np.int8), "unsupported-dtype"),
        (np.zeros((12, 16, 3), np.uint16), "unsupported-dtype"),
        (np.zeros((12, 16), np.uint8), "image-invalid"),
        (np.zeros((3, 12, 16), np.uint8), "image-invalid"),
        (np.zeros((12, 16, 1), np.uint8), "image-invalid"),
        (np.zeros((12, 16, 5), np.uint8), "image-invalid"),
        (np.zeros((2, 12, 16, 3), np.uint8), "image-invalid"),
        (np.zeros((1, 1, 12, 16, 3), np.uint8), "image-invalid"),
        (np.zeros((), np.uint8), "image-invalid"),
        (np.zeros((4, 4, 3), np.uint8), "image-invalid"),
        (np.zeros((0, 16, 3), np.uint8), "image-invalid"),
        (np.zeros((4097, 8, 3), np.uint8), "image-too-large"),
        (np.zeros((2000, 2001, 3), np.uint8), "image-too-large"),
    ],
    ids=lambda sent: f"{sent.dtype}{sent.shape}" if isinstance(sent, np.ndarray) else sent,
)
def test_a_messages_array_has_to_hold(sent, code):
    """Type, shape and size of an array in a binary message are each judged."""
    assert refusal(sent) == code


def test_sizes_just_within_the_limits_are_taken(encoded, picture):
    """To the pixel, for each way to send a picture; one beyond is refused."""
    raw, png = encode_array(picture), encoded("PNG")
    within = {"max_image_pixels": 12 * 16, "max_image_side_px": 16, "min_image_side_px": 12}
    for sent in (picture, raw, png):
        assert np.array_equal(read_picture(sent, Limits(**within), ""), picture)
        assert refusal(sent, **within | {"max_image_pixels": 12 * 16 - 1}) == "image-too-large"
        assert refusal(sent, **within | {"max_image_side_px": 15}) == "image-too-large"
        assert refusal(sent, **within | {"min_image_side_px": 13}) == "image-invalid"


def test_a_shape_is_judged_for_itself(picture):
    """Whatever sides are allowed: channels come last, and a side is a number."""
    for order in [(2, 0, 1), (0, 2, 1)]:
        turned = np.ascontiguousarray(picture.transpose(order))
        assert refusal(turned, min_image_side_px=1) == "image-invalid"
        assert refusal(encode_array(turned), min_image_side_px=1) == "image-invalid"
    row = {**encode_array(picture[:1]), "shape": [True, 16, 3]}

    assert refusal(row, min_image_side_px=1) == "image-invalid"


@pytest.mark.parametrize("bound", [10, 100], ids=["an error", "a warning"])
def test_what_pillow_takes_for_a_bomb_is_the_pictures_fault(encoded, monkeypatch, bound):
    """Where its own bound is below ours, the picture is refused like any that cannot be read."""
    monkeypatch.setattr(PIL.Image, "MAX_IMAGE_PIXELS", bound)

    assert refusal(encoded("PNG")) == "image-invalid"


def test_no_other_format_is_tried(encoded, monkeypatch):
    """Pillow reads dozens, each with faults of its own: it is asked for two."""
    tried, open_ = [], PIL.Image.open
    monkeypatch.setattr(PIL.Image, "open", lambda *args, **how: tried.append(how) or open_(*args, **how))
    for kind in ("PNG", "JPEG"):
        read_picture(encoded(kind), Limits(), "")

    assert [set(how["formats"]) for how in tried] == [{"JPEG", "PNG"}] * 2


def test_an_array_as_cpp_clients_write_it(picture):
    """`__ndarray__` with a plain name for its type is the same picture."""
    written = encode_array(picture)
    for name in ("uint8", "u1", "|u1"):
        sent = {"__ndarray__": written["__numpy__"], "dtype": name, "shape": written["shape"]}

        assert np.array_equal(read_picture(sent, Limits(), ""), picture)
    assert refusal({**sent, "dtype": "float32"}) == "unsupported-dtype"


@pytest.mark.parametrize(
    "head",
    [
        "data:image/jpeg;base64,",
        "data:image/jpg;base64,",
        "data:image/png;base64,",
        "DATA:Image/JPEG;Base64,",
        "data:image/jpeg;charset=utf-8;base64,",
        "data:image/jpeg; base64,",
        "data:;base64,",
        "data:application/octet-stream;base64,",
        "data:image/gif;base64,",
    ],
)
def test_the_bytes_behind_a_data_uri_are_believed(encoded, picture, head):
    """A JPEG or a PNG by its first bytes, whatever type is claimed in whatever spelling."""
    assert read_picture(head + encoded("JPEG"), Limits(), "").shape == (12, 16, 3)
    assert np.array_equal(read_picture(head + encoded("PNG"), Limits(), ""), picture)
    assert refusal(head + base64.b64encode(b"RIFF\x20\x00\x00\x00WEBPVP8 ").decode()) == "image-invalid"


@pytest.mark.parametrize("head", ["data:image/png,", "data:,", "data:image/png;base32,", "data:image/png;base64;x,"])
def test_a_data_uri_that_is_not_in_base64(encoded, head):
    """Its bytes would have to be read in another way."""
    assert refusal(head + encoded("PNG")) == "image-invalid"


def test_base64_as_others_write_it(picture):
    """Lines of 76 characters, no padding, the alphabet of URLs: the same bytes."""
    for comment in (b"", b"x", b"xx"):  # each with another padding
        sink = io.BytesIO()
        info = PngInfo()
        info.add_text("Comment", comment)
        PIL.Image.fromarray(picture).save(sink, "PNG", pnginfo=info)
        data = sink.getvalue()
        plain = base64.b64encode(data).decode()
        written = [
            base64.encodebytes(data).decode(),
            base64.encodebytes(data).decode().replace("\n", "\r\n"),
            plain.rstrip("="),
            base64.urlsafe_b64encode(data).decode(),
            base64.urlsafe_b64encode(data).decode().rstrip("="),
            f" {plain}\n",
        ]
        for text in written:
            assert np.array_equal(read_picture(text, Limits(), ""), picture)
            assert np.array_equal(read_picture("data:image/png;base64," + text, Limits(), ""), picture)
    raw = encode_array(picture)
    lines = base64.encodebytes(picture.tobytes()).decode()
    for text in (lines, raw["__numpy__"].rstrip("="), base64.urlsafe_b64encode(picture.tobytes()).decode()):
        assert np.array_equal(read_picture({**raw, "__numpy__": text}, Limits(), ""), picture)


def test_transparency_is_dropped_on_every_way_in(picture):
    """An array with four channels is the picture of its first three, as a PNG is."""
    transparent = np.dstack([picture, np.arange(192, dtype=np.uint8).reshape(12, 16)])
    sink = io.BytesIO()
    PIL.Image.fromarray(transparent).save(sink, "PNG")
    for sent in (transparent, transparent[None], encode_array(transparent), sink.getvalue()):
        pixels = read_picture(sent, Limits(), "")

        assert np.array_equal(pixels, picture)
        assert pixels.flags.c_contiguous
        assert pixels.flags.writeable


def test_a_batch_of_one_is_its_picture(picture):
    """As an array and in JSON."""
    for sent in (picture[None], encode_array(picture[None])):
        pixels = read_picture(sent, Limits(), "")

        assert (pixels.shape, np.array_equal(pixels, picture)) == (picture.shape, True)


@pytest.mark.parametrize(
    ("shape", "said"),
    [
        ((12, 16), "(12, 16); expected (height, width, 3): RGB, channels last, and grey three times over"),
        ((3, 12, 16), "(3, 12, 16); expected (height, width, 3): RGB, channels last; here they come first"),
        ((2, 12, 16, 3), "(2, 12, 16, 3); expected (height, width, 3)"),
        ((12, 16, 1), "(12, 16, 1); expected"),
        ((576,), "(576,); expected"),
    ],
)
def test_the_shape_that_came_is_said(shape, said):
    """With what was expected; the same on every way in."""
    for sent in (np.zeros(shape, np.uint8), encode_array(np.zeros(shape, np.uint8))):
        with pytest.raises(RequestError) as caught:
            read_picture(sent, Limits(), "/image")

        assert said in caught.value.detail


def turned(picture, orientation, kind="PNG", **options):
    """A file that says how the camera was held."""
    exif = PIL.Image.Exif()
    exif[0x0112] = orientation
    sink = io.BytesIO()
    PIL.Image.fromarray(picture).save(sink, kind, exif=exif, **options)
    return sink.getvalue()


@pytest.mark.parametrize(
    ("orientation", "expected"),
    [
        (1, lambda seen: seen),
        (2, lambda seen: seen[:, ::-1]),
        (3, lambda seen: seen[::-1, ::-1]),
        (4, lambda seen: seen[::-1]),
        (5, lambda seen: seen.transpose(1, 0, 2)),
        (6, lambda seen: np.rot90(seen, -1)),
        (7, lambda seen: seen[::-1, ::-1].transpose(1, 0, 2)),
        (8, lambda seen: np.rot90(seen)),
        (0, lambda seen: seen),
        (9, lambda seen: seen),
    ],
)
def test_a_picture_is_turned_as_its_exif_says(picture, orientation, expected):
    """As viewers and OpenCV do; an orientation that there is not turns nothing."""
    pixels = read_picture(turned(picture, orientation), Limits(), "")

    assert np.array_equal(pixels, expected(picture))


def test_a_jpeg_is_turned_too():
    """Whose EXIF is a segment; its size is judged as it is stored."""
    smooth = np.add.outer(np.arange(32), np.arange(48)).astype(np.uint8)[..., None].repeat(3, axis=2)
    data = turned(smooth, 6, "JPEG", quality=95)
    pixels = read_picture(data, Limits(), "")

    assert pixels.shape == (48, 32, 3)
    assert np.abs(pixels.astype(int) - np.rot90(smooth, -1)).max() <= 4
    assert refusal(data, max_image_side_px=47) == "image-too-large"


@pytest.mark.parametrize(
    "damage", [b"Exif\0\0", b"Exif\0\0MM\0*\0\0\xff\xff", b"Exif\0\0II*\0\x08\0\0\0\xff\xff", b"?"]
)
def test_damaged_exif_costs_nothing(picture, damage):
    """It is not the picture."""
    sink = io.BytesIO()
    PIL.Image.fromarray(picture).save(sink, "JPEG", quality=95, exif=b"Exif\0\0" + damage)

    with warnings.catch_warnings():
        prepare_pillow()

        assert read_picture(sink.getvalue(), Limits(), "").shape == picture.shape


def test_what_was_left_unread_names_its_kind():
    """An array of strings where a picture has to be."""
    with pytest.raises(RequestError) as caught:
        read_picture(UnsupportedValue("dtype is '<U4'; expected plain numbers."), Limits(), "/image")

    assert caught.value.code == "unsupported-dtype"
    assert "'<U4'" in caught.value.detail


def test_a_bomb_is_an_error():
    """Pillow's warning of one is raised, whatever else was said of warnings in this process."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        prepare_pillow()
        with pytest.raises(PIL.Image.DecompressionBombWarning):
            warnings.warn("a bomb", PIL.Image.DecompressionBombWarning, stacklevel=1)


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"dtype": "<f4"}, "unsupported-dtype"),
        ({"dtype": "|O"}, "unsupported-dtype"),
        ({"dtype": "uint8"}, "unsupported-dtype"),
        ({"dtype": [["a", "|u1"]]}, "unsupported-dtype"),
        ({"shape": [12, 16]}, "image-invalid"),
        ({"shape": [3, 12, 16]}, "image-invalid"),
        ({"shape": [12, 16, 4]}, "bad-codec"),
        ({"shape": [12, 16, 5]}, "image-invalid"),
        ({"shape": [-12, -16, 3]}, "image-invalid"),
        ({"shape": [True, 16, 3]}, "image-invalid"),
        ({"shape": [12.0, 16, 3]}, "image-invalid"),
        ({"shape": None}, "image-invalid"),
        ({"shape": [4, 4, 3]}, "image-invalid"),
        ({"shape": [12, 17, 3]}, "bad-codec"),
        ({"shape": [1 << 40, 1 << 40, 3]}, "image-too-large"),
        ({"shape": [5000, 8, 3]}, "image-too-large"),
        ({"__numpy__": None}, "bad-codec"),
        ({"__numpy__": "A" * 767 + "!"}, "bad-codec"),
        ({"__numpy__": "A" * 767}, "bad-codec"),
        ({"__numpy__": "é" * 768}, "bad-codec"),
    ],
)
def test_raw_pixels_have_to_hold(picture, change, code):
    """Type, shape, size and length of a raw picture are each checked."""
    assert refusal({**encode_array(picture), **change}) == code


@pytest.mark.parametrize(
    ("value", "code"),
    [
        ("http://127.0.0.1/cat.png", "image-invalid"),
        ("file:///etc/passwd", "image-invalid"),
        ("data:text/html;base64,AAAA", "image-invalid"),
        ("data:image/png,AAAA", "image-invalid"),
        ("/etc/passwd", "image-invalid"),
        ("AAAA\nAAAA", "image-invalid"),
        ("AAA", "image-invalid"),
        ("AAAAA", "bad-codec"),
        ("AAA=A", "bad-codec"),
        ("AA AA", "bad-codec"),
        ("AA=", "bad-codec"),
        ("", "image-invalid"),
        ("AAAA", "image-invalid"),
        (base64.b64encode(b"GIF89a" + bytes(40)).decode(), "image-invalid"),
        (base64.b64encode(b"\x89PNG\r\n\x1a\n").decode(), "image-invalid"),
        (base64.b64encode(b"\xff\xd8\xff\xe0\xff\xff").decode(), "image-invalid"),
    ],
)
def test_strings_that_are_not_pictures(value, code):
    """Only base64 of JPEG or PNG is a picture; addresses and paths are never followed."""
    assert refusal(value) == code


@pytest.mark.parametrize("format", ["JPEG", "PNG"])
def test_a_picture_cut_short(encoded, format):  # noqa: A002 -- Pillow's word
    """A truncated file is refused rather than filled with grey, and no library's words are passed on."""
    data = base64.b64decode(encoded(format))
    value = base64.b64encode(data[: len(data) * 3 // 4]).decode()

    assert refusal(value) == "image-invalid"


@pytest.mark.parametrize(
    ("height", "width", "code"),
    [
        (13_000, 13_000, "image-too-large"),
        (4097, 8, "image-too-large"),
        (1, 1, "image-invalid"),
        (0, 4096, "image-invalid"),
    ],
)
@pytest.mark.usefixtures("no_decoding")
def test_a_bomb_is_refused_by_its_header(height, width, code):
    """Sizes outside the limits are refused before anything is decoded."""
    assert refusal(png_head(height, width)) == code


@pytest.mark.usefixtures("no_decoding")
def test_a_jpeg_bomb_is_refused_by_its_header(encoded):
    """The same for JPEG: 65535 x 65535 in a few hundred bytes."""
    data = bytearray(base64.b64decode(encoded("JPEG")))
    at = data.index(b"\xff\xc0") + 5
    data[at : at + 4] = b"\xff\xff\xff\xff"

    assert refusal(base64.b64encode(data).decode()) == "image-too-large"


def test_a_header_that_promises_other_pixels(encoded):
    """A second frame header that disagrees with the first is not believed."""
    data = base64.b64decode(encoded("JPEG"))
    at = data.index(b"\xff\xc0")
    lying = bytearray(data[at : at + 2 + int.from_bytes(data[at + 2 : at + 4], "big")])
    lying[5:9] = struct.pack(">HH", 3000, 3000)

    assert refusal(base64.b64encode(data[:at] + data[at : at + 19] + bytes(lying) + data[at + 19 :]).decode()) == (
        "image-invalid"
    )


def test_headers_that_are_read_in_two_ways(encoded, monkeypatch):
    """Where Pillow finds another size than the one that was judged, the picture is not decoded."""
    monkeypatch.setattr(images, "peek_size", lambda _: (12, 17))

    assert refusal(encoded("PNG")) == "image-invalid"


@pytest.mark.parametrize("mode", ["P", "1", "I;16"])
def test_unusual_pixel_formats(encoded, mode):
    """Palettes, bitmaps and 16-bit pictures would be converted by guesswork; they are refused."""
    assert refusal(encoded("PNG", mode=mode)) == "image-invalid"
