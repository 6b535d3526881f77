"""Every way in by which a client's bytes become a frame, a session's fields or a refusal; and good bytes for each.

Knows the web floor's readers; no HTTP and no engine. Loaded by path: by tests here, and by `climb.py` in another
environment.
"""

from __future__ import annotations

import base64
import io
import json
import struct
import time
import zlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgpack
import numpy as np
import PIL.Image
from prometheus_client import CollectorRegistry

from stillframe.domain import KVUsage, PolicyInfo, TokenScope
from stillframe.errors import RequestError
from stillframe.metrics import Metrics
from stillframe.sessions.registry import SessionRegistry
from stillframe.sessions.settings import SessionSettings
from stillframe.stopwatch import Stopwatch
from stillframe.testing import policy_info
from stillframe.web.dialects.openpi import OPENPI
from stillframe.web.dialects.select import Selector, by_json_keys, cogact_form, native_by_codec
from stillframe.web.http.codecs import FORM, JSON, MSGPACK, codec_of
from stillframe.web.http.images import prepare_pillow, read_picture
from stillframe.web.http.limits import Limits
from stillframe.web.http.parsing import parse_msgpack
from stillframe.web.http.session_fields import RequestAddress, read_count, read_session_fields
from stillframe.web.middleware.auth import Caller
from stillframe.web.routes.sessions import open_session
from stillframe.web.service.frame_parser import FrameParser, ParsedFrame
from stillframe.web.streaming.messages import IncomingMessage, parse, position_of, read_frame
from stillframe.web.streaming.openpi_sessions import ConnectionSessions
from stillframe_client.wire import encode_array, pack

RECORDED = Path(__file__).resolve().parents[2] / "web" / "dialects" / "recorded"
PIXELS = np.arange(12 * 16 * 3, dtype=np.uint16).astype(np.uint8).reshape(12, 16, 3)
RAW = encode_array(PIXELS)
BOUNDARY = "0123456789abcdef0123456789abcdef"
FORM_TYPE = f"multipart/form-data; boundary={BOUNDARY}"
LIMITS = Limits(max_json_parts=400, max_image_pixels=64 * 64, max_instruction_bytes=256)
STATS = {"q01": [-1.0] * 7, "q99": [1.0] * 7, "mask": [True] * 7}
CALLER = Caller("robot", frozenset({TokenScope.ACT}))


def policy_of(*cameras: str) -> PolicyInfo:
    """A policy with these cameras."""
    return policy_info(
        name="fuzzed",
        family="openvla",
        parameters=1,
        cameras=cameras,
        gripper="1 = open",
        norm_stats={"jaco": STATS, "bridge_orig": STATS},
        default_unnorm_key="jaco",
    )


READERS = [FrameParser(policy_of("front"), LIMITS), FrameParser(policy_of("front", "wrist"), LIMITS)]


class NoPolicy:
    """As much of a policy as a roster asks for when nobody sends it a frame."""

    usage = KVUsage(0, 1000, 0, slots=8)

    def forget(self, session_id: str) -> None:
        """It keeps nothing."""


def _roster() -> SessionRegistry:
    watch = Metrics(CollectorRegistry(), drift_budget=0.02).sessions
    policy: Any = NoPolicy()
    return SessionRegistry(SessionSettings(lease_s=0), lambda: policy, time.perf_counter, watch)


ROSTER = _roster()


def _posted(choose: Selector, codec: Any, content_type: str = "") -> Callable[[bytes], None]:
    def enter(data: bytes) -> None:
        fields = codec.read(data, content_type, LIMITS)
        dialect, inner = choose(fields, codec, LIMITS.max_json_parts)
        by_each(lambda reader: reader.parse(inner, dialect, RequestAddress(), b"digest"))

    return enter


def by_each(read: Callable[[FrameParser], ParsedFrame]) -> None:
    """Read a frame for every policy; refused is what all of them refuse."""
    refusals = []
    for reader in READERS:
        try:
            _check(read(reader))
        except RequestError as error:
            _check_words(error)
            refusals.append(error)
    if len(refusals) == len(READERS):
        raise refusals[0]


def _check_words(error: RequestError) -> None:
    """What a client is told says something, has a place that is one, and can be written."""
    assert error.detail
    assert len(error.detail) < 2000, error.detail[:200]
    assert error.pointer is None or error.pointer.startswith("/"), error.pointer
    json.dumps([error.code, error.detail]).encode()
    error.detail.encode()


def _check(frame: ParsedFrame) -> None:
    """What comes in is what a policy may be handed."""
    for picture in frame.observation.images.values():
        assert picture.dtype == np.uint8
        assert picture.ndim == 3
        assert picture.shape[2] == 3
        assert picture.shape[0] * picture.shape[1] <= LIMITS.max_image_pixels
    frame.observation.instruction.encode()
    assert len(frame.observation.instruction.encode()) <= LIMITS.max_instruction_bytes
    assert frame.observation.unnorm_key in (None, *STATS_KEYS)
    assert 0 < frame.max_age_ms <= LIMITS.longest_max_age_ms


STATS_KEYS = ("jaco", "bridge_orig")


def _openpi(data: bytes) -> None:
    fields = parse_msgpack(data, LIMITS.max_json_parts)
    scenes = ConnectionSessions(ROSTER, "robot", "robot")
    try:
        session = scenes.enter(fields)
        head = RequestAddress(path_id=session.id)
        by_each(lambda reader: reader.parse(fields, OPENPI, head))
    finally:
        try:
            scenes.reset(fields)
        finally:
            scenes.close()


def _streamed(data: bytes | str) -> None:
    fields = parse(data, LIMITS.max_json_parts)
    json.dumps(position_of(fields))
    kind = fields.get("type")
    if isinstance(kind, str) and kind == "frame":
        arrival = IncomingMessage(fields, data, Stopwatch())
        by_each(lambda reader: read_frame(reader, arrival))
    else:
        read_count(fields, "epoch")
        _opened(fields)


def _opened(fields: Mapping[str, Any]) -> None:
    session, _ = open_session(ROSTER, fields, CALLER, "robot")
    ROSTER.close(session)


def _text(data: bytes) -> None:
    """A text frame: what is no UTF-8 does not get past the WebSocket."""
    _streamed(data.decode("utf-8", "replace"))


def _session_body(data: bytes) -> None:
    _opened(JSON.read(data, "", LIMITS))


def _head(data: bytes) -> None:
    """What stands beside a frame: its type, the session it names, its key. Headers are Latin-1."""
    content_type, _, rest = data.decode("latin-1").partition("\n")
    session_id, _, key = rest.partition("\n")
    codec = codec_of(content_type)
    read_session_fields({}, RequestAddress((session_id,), session_id, key))
    if codec is FORM:
        FORM.read(FORMS[0], content_type, LIMITS)


def _picture(data: bytes) -> None:
    pixels = read_picture(data, LIMITS, "/image")
    assert pixels.dtype == np.uint8
    assert pixels.shape[0] * pixels.shape[1] <= LIMITS.max_image_pixels


def _picture_text(data: bytes) -> None:
    read_picture(data.decode("latin-1"), LIMITS, "/image")


def compressed(kind: str, mode: str = "RGB", **options: Any) -> bytes:
    """The picture as a file."""
    sink = io.BytesIO()
    PIL.Image.fromarray(PIXELS).convert(mode).save(sink, kind, **options)
    return sink.getvalue()


def png_chunk(kind: bytes, data: bytes) -> bytes:
    """One chunk of a PNG."""
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def _recorded(pattern: str) -> list[bytes]:
    return [file.read_bytes() for file in sorted(RECORDED.glob(pattern))]


def _bodies(pattern: str) -> list[bytes]:
    """The bodies of recorded requests; those without one say nothing."""
    bodies = [recorded.partition(b"\r\n\r\n")[2] for recorded in _recorded(pattern)]
    return [body for body in bodies if body]


def _form(parts: Mapping[str, tuple[str, bytes]]) -> bytes:
    said = b""
    for name, (head, data) in parts.items():
        line = f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="{name}"{head}\r\n\r\n'
        said += line.encode() + data + b"\r\n"
    return said + f"--{BOUNDARY}--\r\n".encode()


def _jsons() -> list[bytes]:
    raw = {"image": RAW, "instruction": "pick up the cup", "unnorm_key": "jaco"}
    place = {"session_id": "arm", "epoch": 1, "seq": 7, "reuse": "exact", "max_age_ms": 99.5, "t_obs_ns": -5}
    png = base64.b64encode(compressed("PNG")).decode()
    plain = {"__ndarray__": RAW["__numpy__"], "dtype": "uint8", "shape": [12, 16, 3]}
    frames: list[Any] = [
        raw,
        {**raw, **place},
        {"image": png, "instruction": "go"},
        {"image": f"data:image/png;base64,{png}", "instruction": "go"},
        {"images": {"front": png, "wrist": RAW}, "instruction": "go"},
        {"image": plain, "instruction": "é"},
        {"encoded": json.dumps(raw)},
        {"full_image": RAW, "left_wrist": RAW, "state": encode_array(np.zeros(8)), "instruction": "go"},
    ]
    return [json.dumps(frame).encode() for frame in frames]


def _maps() -> list[bytes]:
    lebedov = {b"nd": True, b"type": "|u1", b"kind": b"", b"shape": [12, 16, 3], b"data": PIXELS.tobytes()}
    npy = io.BytesIO()
    np.save(npy, PIXELS)
    base = {"instruction": "go", "session_id": "arm", "epoch": 0, "seq": 3, "t_obs_ns": 12}
    pictures: list[Any] = [
        PIXELS,
        compressed("JPEG"),
        lebedov,
        {"__ndarray_class__": True, "as_npy": npy.getvalue()},
        {"__image__": True, "format": "raw", "data": PIXELS.tobytes(), "dtype": "|u1", "shape": [12, 16, 3]},
        {"__image__": True, "format": "png", "data": compressed("PNG")},
    ]
    frames = [pack({**base, "image": picture}) for picture in pictures]
    return [*frames, pack({**base, "images": {"front": PIXELS, "wrist": PIXELS}, "max_age_ms": np.float32(50)})]


def _observations() -> list[bytes]:
    chw = np.ascontiguousarray(PIXELS.transpose(2, 0, 1))
    said: list[Any] = [
        {"observation/image": PIXELS, "observation/state": np.zeros(8), "prompt": "go"},
        {"images": {"cam_high": chw, "cam_left_wrist": chw}, "state": np.zeros(14), "prompt": b"go"},
        {"observation/image": (PIXELS / 255).astype(np.float32), "prompt": "go", "env_id": 3, "session_id": "a"},
        {"endpoint": "reset", "session_ids": ["a", 1], "env_ids": np.arange(3)},
        {"observation": {"image": compressed("PNG")}, "task": "go", "reset": True, "max_age_ms": 5.0},
        {"image": msgpack.unpackb(pack(PIXELS)), "prompt": "go", "reset": np.bool_(1), "env_id": np.int64(4)},
    ]
    return [pack(observation) for observation in said]


def _messages() -> list[dict[str, Any]]:
    return [
        {"type": "open", "session_id": "arm", "secret": None, "service": "realtime", "reuse": "adaptive"},
        {"type": "open"},
        {"type": "frame", "session_id": "arm", "epoch": 0, "seq": 1, "image": PIXELS, "instruction": "go"},
        {"type": "frame", "session_id": "arm", "image": PIXELS, "max_age_ms": 5, "t_obs_ns": 2**62, "reuse": "off"},
        {"type": "frame", "session_id": "arm", "images": {"front": PIXELS, "wrist": PIXELS}, "unnorm_key": "jaco"},
        {"type": "reset", "session_id": "arm", "epoch": 4},
        {"type": "ping", "nested": [[1, [2, [-3, {"a": [True, None, 0.25]}]]], {"b": {"c": {}}}]},
    ]


def _texts() -> list[bytes]:
    return [json.dumps(message, default=encode_array).encode() for message in _messages()]


FORMS = [
    _form(
        {
            "images": ('; filename="a.png"\r\nContent-Type: image/png', compressed("PNG")),
            "json": ("", b'{"task_description": "go", "session_id": "arm", "seq": 3}'),
        }
    ),
    _form({"images": ("", compressed("JPEG")), "json": ("", b'{"task_description": "go"}'), "note": ("", b"x")}),
    *_bodies("cogact.http"),
]
NATIVE_FORMS = [
    _form({"front": ("", compressed("PNG")), "wrist": ("", compressed("JPEG")), "json": ("", b'{"instruction":"go"}')}),
    _form({"image": ("", compressed("PNG")), "json": ("", b'{"instruction": "go", "reuse": null}')}),
]
PICTURES = [
    *(compressed(kind, mode) for kind in ("PNG", "JPEG") for mode in ("RGB", "L")),
    compressed("PNG", "RGBA"),
    compressed("PNG", "P"),
    compressed("PNG", "1"),
    compressed("JPEG", progressive=True, quality=40),
    compressed("JPEG", "CMYK"),
    compressed("JPEG", subsampling=2, restart_marker_rows=1, comment=b"hello"),
]
HEADS = [
    b"application/json\narm-1\nkey",
    b"application/vnd.api+json; charset=utf-8\narm\nk",
    b"application/msgpack\na.b_c-d\n" + b"k" * 128,
    FORM_TYPE.encode() + b"\narm\nk",
    b"multipart/form-data; boundary*=utf-8''" + BOUNDARY.encode() + b"\narm\nk",
]


@dataclass(frozen=True)
class Door:
    """A way in: it returns for what is well, and raises RequestError, and nothing else, for what is not."""

    enter: Callable[[bytes], None]
    good: list[bytes]


DOORS: Mapping[str, Door] = {
    "act-json": Door(_posted(by_json_keys, JSON), [*_jsons(), *_bodies("openvla*.http"), *_bodies("curl.http")]),
    "v1-json": Door(_posted(native_by_codec, JSON), _jsons()[:6]),
    "v1-msgpack": Door(_posted(native_by_codec, MSGPACK), [*_maps(), *_bodies("msgpack-numpy.http")]),
    "v1-form": Door(_posted(native_by_codec, FORM, FORM_TYPE), NATIVE_FORMS),
    "cogact-form": Door(_posted(cogact_form, FORM, FORM_TYPE), FORMS),
    "openpi": Door(_openpi, [*_observations(), *_recorded("openpi-*.msgpack"), *_recorded("roboarena-*.msgpack")]),
    "stream-msgpack": Door(_streamed, [pack(message) for message in _messages()]),
    "stream-json": Door(_text, _texts()),
    "session": Door(_session_body, _texts()[:2]),
    "head": Door(_head, HEADS),
    "picture": Door(_picture, PICTURES),
    "picture-text": Door(_picture_text, [base64.b64encode(picture) for picture in PICTURES]),
}

# Heads and words that promise much, nest, or mean something to one of the readers.
WORDS = [
    *(bytes.fromhex(head) for head in ("c6ffffffff", "dbffffffff", "ddffffffff", "dfffffffff", "c7ff", "d8", "c1")),
    *(b"\xc4\x0b__ndarray__\xc3", b"\xa4data", b"\xa5dtype\xa3<f8", b"\xa5shape\x93\xce\xff\xff\xff\xff\x01\x03"),
    *(b"\xa3>f2", b"\xa2|O", b"\xcb\x7f\xf8\0\0\0\0\0\0", b"\xcf\xff\xff\xff\xff\xff\xff\xff\xff", b"\x91" * 20),
    *(b"[" * 30, b'{"a":' * 20, b"NaN", b"1e999", b"-0", b"9" * 80, b"9" * 5000, b"\\ud800", b"\\u", b'"', b"\x00"),
    *(b'{"__numpy__":"', b'"dtype":"<f8",', b'"shape":[4294967295,4294967295,3]', b"null", b"true", b"[]", b"{}"),
    *(b'"encoded":"{}"', b'"images":', b'"session_id":', b"http://", b"data:image/png;base64,", b"=", b"," * 500),
    *(b"\r\n--" + BOUNDARY.encode(), b"--", b"\r\n\r\n", b'name=""', b"; name*=utf-8", b"Content-Disposition:", b"\r"),
    *(b"\xff\xd8", b"\xff\xd9", b"\xff\xda\x00\x00", b"\xff\xc2\x00\x11", b"\xff\xff", b"\xff\xfe\x00\x00", b"IDAT"),
    *(b"\x00\x00\x00\x00", b"\xff\xff\xff\xff", b"\x7f\xff\xff\xff", b"PLTE", b"tRNS", b"acTL", b"iCCP", b"eXIf"),
]
# Values that are of another kind than a field expects, or at its edge.
VALUES: list[Any] = [
    *(
        None,
        True,
        False,
        0,
        -1,
        1,
        2**53,
        2**63 - 1,
        -(2**63),
        2**64 - 1,
        0.0,
        -0.5,
        1e300,
        "",
        " ",
        "\0",
        "arm",
        "\ud800",
    ),
    *("../../etc/passwd", "s-" + "0" * 32, "x" * 300, "é" * 200, "data:text/html,x", "file:///etc/passwd", "AAAA", "="),
    *([], {}, [[]], [0] * 50, {"": ""}, {"front": None}, {"__numpy__": ""}, {"__numpy__": 5, "dtype": [], "shape": {}}),
    *(
        {"__ndarray__": True},
        {"__ndarray__": "AAAA", "dtype": {}, "shape": [1, 1, 3]},
        {"nd": True, "type": 5, "data": 5},
    ),
    {"__numpy__": "", "dtype": "|u1", "shape": [0, 0, 3]},
    {"__numpy__": "AAAA", "dtype": "|u1", "shape": [1, 1, 3]},
    {"__numpy__": "AAAA", "dtype": "<f8", "shape": [2**40, 2**40, 3]},
    {"__ndarray_class__": True, "as_npy": "x"},
]
BINARY_VALUES: list[Any] = [
    *(b"", b"\xff\xd8\xff", float("nan"), float("inf"), np.float16(2), np.bool_(1), np.zeros((0, 3)), np.zeros(())),
    *(np.zeros((3, 16, 16), np.float32), np.full((16, 16, 3), np.nan), np.full((16, 16, 3), np.inf, np.float16)),
    *(np.zeros((16, 16, 3), np.int64), np.zeros((0, 0, 3), np.uint8), np.zeros((16, 16, 3), bool), np.arange(2000)),
    *(np.zeros((3, 9, 3), np.uint8), np.zeros((3, 3, 0), np.float64), np.zeros((1,) * 8), np.array(["x"]).tobytes()),
    {b"nd": False, b"type": "<f8", b"data": b"12345678"},
    {b"__npgeneric__": True, b"data": "x", b"dtype": "<f4"},
    {b"__image__": True, b"format": "raw", b"data": b"", b"dtype": "|u1", b"shape": [0]},
]


def malformed(rng: np.random.Generator, door: Door) -> Iterator[bytes]:
    """Good bytes with bits flipped, cut, lied into, spliced, repeated; and with one value replaced. Without end."""
    swapped = _swapper(door.good[0])
    while True:
        message, other = (door.good[i] for i in rng.integers(len(door.good), size=2))
        at, to = sorted(int(i) for i in rng.integers(len(message), size=2))
        word = WORDS[rng.integers(len(WORDS))]
        yield message[:at] + bytes([message[at] ^ (1 << int(rng.integers(8)))]) + message[at + 1 :]
        yield message[:at]
        yield message[:at] + word + message[at:]
        yield message[:at] + word + message[at + len(word) :]
        yield message[:at] + other[int(rng.integers(len(other))) :]
        yield message[:to] + message[at:]
        yield message[:at] + message[to + 1 :]
        yield message[:at] + rng.bytes(int(rng.integers(1, 5))) + message[at:]
        yield rng.bytes(int(rng.integers(1, 64)))
        if swapped is not None:
            yield from (swapped(rng, message) for _ in range(5))


def _swapper(sample: bytes) -> Callable[[np.random.Generator, bytes], bytes] | None:
    """How to replace one value of a message, where messages are maps of values."""
    if sample[:1] == b"{":
        return lambda rng, message: json.dumps(_swap(rng, json.loads(message), VALUES), default=str).encode()
    if sample[0] & 0xF0 == 0x80 and not sample.startswith(b"\x89PNG"):
        return lambda rng, message: _packed(
            _swap(rng, msgpack.unpackb(message, strict_map_key=False), [*VALUES, *BINARY_VALUES])
        )
    return None


def _packed(value: Any) -> bytes:
    """As msgpack; what has no form in it becomes nothing."""
    try:
        return pack(value)
    except Exception:  # noqa: BLE001 (whatever it is: a message less)
        return b"\x80"


def _swap(rng: np.random.Generator, value: Any, values: list[Any]) -> Any:
    """The value with one part of it, some levels down, replaced by another; or with a part more."""
    if isinstance(value, dict) and value and rng.random() < 0.85:
        if rng.random() < 0.15:
            return {
                **value,
                ("images", "env_id", "reuse", "session_ids", "wrist", "x")[rng.integers(6)]: _one(rng, values),
            }
        key = list(value)[rng.integers(len(value))]
        return {**value, key: _swap(rng, value[key], values)}
    if isinstance(value, list) and value and rng.random() < 0.7:
        at = int(rng.integers(len(value)))
        return [*value[:at], _swap(rng, value[at], values), *value[at + 1 :]]
    return _one(rng, values)


def _one(rng: np.random.Generator, values: list[Any]) -> Any:
    return values[rng.integers(len(values))]


prepare_pillow()
