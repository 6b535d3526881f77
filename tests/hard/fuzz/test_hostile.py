from __future__ import annotations

import base64
import io
import json
import signal
import struct
import tracemalloc
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from types import ModuleType
from typing import Any

import numpy as np
import PIL.Image
import pytest

from stillframe.errors import RequestError
from stillframe.web.dialects.select import Selector, by_json_keys, cogact_form, native_by_codec
from stillframe.web.http.codecs import FORM, JSON, MSGPACK, Codec
from stillframe.web.http.limits import Limits
from stillframe.web.http.parsing import parse_msgpack
from stillframe.web.http.session_fields import RequestAddress
from stillframe.web.service.frame_parser import FrameParser
from stillframe.web.streaming.openpi_sessions import ConnectionSessions
from stillframe_client.wire import encode_array, pack

HANGS_S = 30  # each of these took minutes, or was refused at once
MIB = 2**20
LIMITS = Limits()
ROUTES = {
    "json": (by_json_keys, JSON),
    "v1-json": (native_by_codec, JSON),
    "msgpack": (native_by_codec, MSGPACK),
    "form": (cogact_form, FORM),
}


@pytest.fixture(scope="session")
def doors(load: Callable[[str], ModuleType]) -> Any:
    """What fuzz/doors.py has to give."""
    return load("hard/fuzz/doors.py")


@contextmanager
def no_hang() -> Iterator[None]:
    """Fail when the block takes too long."""

    def ring(*_: object) -> None:
        pytest.fail("hangs")

    before = signal.signal(signal.SIGALRM, ring)
    signal.alarm(HANGS_S)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def frame(**fields: Any) -> dict[str, Any]:
    """A frame as JSON has it, with some fields more or others."""
    return {"image": encode_array(np.zeros((8, 8, 3), np.uint8)), "instruction": "go", **fields}


def posted(fields: Any) -> bytes:
    """A body of JSON."""
    return json.dumps(fields).encode()


@cache
def _jpeg() -> bytes:
    """A progressive JPEG of the most pixels that are accepted."""
    sink = io.BytesIO()
    PIL.Image.fromarray(np.indices((2000, 2000)).sum(0).astype(np.uint8)).save(sink, "JPEG", progressive=True)
    return sink.getvalue()


def scans() -> bytes:
    """The same with its last scan said again and again: each is decoded, over all pixels."""
    whole = _jpeg()
    return whole[:-2] + whole[whole.rindex(b"\xff\xda") : -2] * 200 + whole[-2:]


def segments(one: bytes, at: bytes) -> bytes:
    """A JPEG with a quarter of a million segments, in front of the mark `at`."""
    whole = _jpeg()
    place = whole.index(at, 2)
    return whole[:place] + one * 250_000 + whole[place:]


def chunks(kind: bytes, *, behind: bool) -> bytes:
    """A PNG with as many chunks."""

    def chunk(name: bytes, data: bytes = b"") -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    pixels = chunk(b"IDAT", zlib.compress(bytes(8 * 25)))
    many = chunk(kind) * 250_000
    body = pixels + many if behind else many + pixels
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">IIBBBBB", 8, 8, 8, 2, 0, 0, 0)) + body + chunk(b"IEND")


def framed(picture: bytes) -> bytes:
    """A picture's file in msgpack."""
    return pack({"image": picture, "instruction": "go"})


def parted(*parts: bytes) -> bytes:
    """A form with these between its boundaries."""
    return b"".join(b"--b\r\n" + part + b"\r\n" for part in parts) + b"--b--\r\n"


def enter(body: bytes, route: tuple[Selector, Codec], reader: FrameParser) -> None:
    """The walk of a posted body as far as the frame."""
    choose, codec = route
    fields = codec.read(body, "multipart/form-data; boundary=b", LIMITS)
    dialect, fields = choose(fields, codec, LIMITS.max_json_parts)
    reader.parse(fields, dialect, RequestAddress())


HEAD = b'Content-Disposition: form-data; name="images"\r\n'
SAID = b'Content-Disposition: form-data; name="json"\r\n\r\n{"task_description": "go"}'
# What comes in by which route, and what it is refused as.
HOSTILE: dict[str, tuple[str, Callable[[], bytes], str]] = {
    "a key that a pattern tries at every place": (
        "json",
        lambda: posted({"full_image": "", "wrist" + "left" * 100_000 + "x": "", "instruction": "go"}),
        "image-invalid",
    ),
    "ten thousand such keys": (
        "json",
        lambda: posted({"full_image": 0, **{f"wrist{n}" + "left" * 300 + "x": 0 for n in range(9000)}}),
        "too-many-images",
    ),
    "a key of statistics that is a novel": ("json", lambda: posted(frame(unnorm_key="ab" * MIB)), "unknown-unnorm-key"),
    "a camera that is a novel": (
        "v1-json",
        lambda: posted({"images": {"ab" * MIB: ""}, "instruction": "go"}),
        "unknown-camera",
    ),
    "a mode that is a novel": ("json", lambda: posted(frame(reuse="ab" * MIB)), "unknown-reuse-mode"),
    "an id that is a novel": ("json", lambda: posted(frame(session_id="ab" * MIB)), "session-id-invalid"),
    "a number of a million digits": ("json", lambda: b'{"max_age_ms": ' + b"9" * MIB + b"}", "bad-json"),
    "brackets in brackets": ("json", lambda: b'{"image":' + b"[" * MIB, "bad-json"),
    "a thousand brackets": ("json", lambda: b'{"image":' + b"[" * 5000 + b"]" * 5000 + b"}", "bad-json"),
    "text in text in text": (
        "json",
        lambda: posted({"encoded": json.dumps({"encoded": json.dumps({"encoded": "{}"})})}),
        "missing-field",
    ),
    "maps in maps": ("msgpack", lambda: b"\x81\xa1a" * MIB, "bad-codec"),
    "a list that promises four thousand million": ("msgpack", lambda: b"\x81\xa1a\xdd\xff\xff\xff\xff", "bad-codec"),
    "bytes that promise as many": ("msgpack", lambda: b"\x81\xa1a\xc6\xff\xff\xff\xff", "bad-codec"),
    "an array that promises more": (
        "msgpack",
        lambda: pack(
            {
                "image": {"__ndarray__": True, "dtype": "|u1", "shape": [2**31, 2**31, 3], "data": b""},
                "instruction": "go",
            }
        ),
        "bad-codec",
    ),
    "a JPEG of two hundred scans": ("msgpack", lambda: framed(scans()), "image-invalid"),
    "a JPEG of many segments": ("msgpack", lambda: framed(segments(b"\xff\xe5\0\2", b"\xff\xdb")), "image-invalid"),
    "a JPEG of many comments": ("msgpack", lambda: framed(segments(b"\xff\xfe\0\2", b"\xff\xda")), "image-invalid"),
    "a JPEG of markers without a length": (
        "msgpack",
        lambda: framed(segments(b"\xff\xd8", b"\xff\xdb")),
        "image-invalid",
    ),
    "a JPEG that is filled up": ("msgpack", lambda: framed(segments(b"\xff" * 4, b"\xff\xdb")), "image-invalid"),
    "a PNG of many chunks": ("msgpack", lambda: framed(chunks(b"teXt", behind=False)), "image-invalid"),
    "a PNG of empty pixels": ("msgpack", lambda: framed(chunks(b"IDAT", behind=False)), "image-invalid"),
    "a PNG of many chunks behind": ("msgpack", lambda: framed(chunks(b"teXt", behind=True)), "image-invalid"),
    "a form of almost boundaries": ("form", lambda: parted(HEAD + b"\r\n" + b"\r\n--a" * MIB, SAID), "image-invalid"),
    "a form of carriage returns": ("form", lambda: parted(HEAD + b"\r\n" + b"\r" * 4 * MIB, SAID), "image-invalid"),
    "a form of many parts": (
        "form",
        lambda: parted(*[HEAD[:-3] + b'%d"\r\n\r\n' % n for n in range(50_000)]),
        "too-many-images",
    ),
    "a part of many headers": ("form", lambda: parted(b"X: y\r\n" * 100_000 + b"\r\n"), "bad-codec"),
    "a part with a long header": ("form", lambda: parted(b"X: " + b"y" * MIB + b"\r\n\r\n"), "bad-codec"),
}


@pytest.mark.parametrize("name", list(HOSTILE))
def test_a_small_body_costs_little(doors: Any, name: str) -> None:
    """What is made to be slow or to swell is refused at once, in a few times its own size."""
    route, make, code = HOSTILE[name]
    body = make()
    reader = FrameParser(doors.policy_of("front"), LIMITS)
    tracemalloc.start()
    try:
        with no_hang(), pytest.raises(RequestError) as caught:
            enter(body, ROUTES[route], reader)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()

    assert caught.value.code == code
    assert len(caught.value.detail) < 2000
    assert peak < 5 * len(body) + 8 * MIB


@pytest.mark.parametrize("name", ["session_ids", "env_ids"])
def test_a_reset_names_as_many_as_there_can_be(doors: Any, name: str) -> None:
    """Millions of ids in one array are not looked at one by one."""
    fields = parse_msgpack(pack({"endpoint": "reset", name: np.zeros(8 * MIB, np.uint8)}), LIMITS.max_json_parts)
    tracemalloc.start()
    try:
        with no_hang(), pytest.raises(RequestError) as caught:
            ConnectionSessions(doors.ROSTER, "robot", "robot").reset(fields)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()

    assert (caught.value.code, caught.value.pointer) == ("bad-field", f"/{name}")
    assert peak < MIB


def test_what_encoders_write_is_taken(doors: Any) -> None:
    """The bounds on a file's parts are far from what encoders write: many scans, small chunks, a profile of colours."""
    noise = np.random.default_rng(0).integers(0, 256, (512, 512, 3), np.uint8)
    sink = io.BytesIO()
    picture = PIL.Image.fromarray(noise)
    picture.save(sink, "JPEG", progressive=True, quality=100, icc_profile=bytes(300_000), comment=b"x" * 60_000)
    png = io.BytesIO()
    picture.save(png, "PNG", compress_level=0, icc_profile=bytes(1000))
    read = doors.read_picture

    assert read(sink.getvalue(), LIMITS, "").shape == (512, 512, 3)
    assert np.array_equal(read(png.getvalue(), LIMITS, ""), noise)
    assert np.array_equal(read(base64.b64encode(png.getvalue()).decode(), LIMITS, ""), noise)
