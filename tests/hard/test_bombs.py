"""Small files that would unpack to much, through each door: refused by what their head says, before memory is taken."""

from __future__ import annotations

import asyncio
import base64
import io
import json
import struct
import tracemalloc
import zlib
from collections.abc import Callable, Coroutine, Mapping
from functools import cache
from typing import Any

import numpy as np
import PIL.Image
import pytest

from stillframe_client.wire import pack

WAIT_S = 60.0
MIB = 2**20
MOST_BYTES = 6 * MIB  # beside the body itself, which some doors hold in two forms
WORDS = {"instruction": "go"}


def chunk(kind: bytes, data: bytes) -> bytes:
    """A chunk of a PNG."""
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(side: int, *more: bytes, rows: bytes) -> bytes:
    """A PNG of grey, as deflated as can be, with chunks in front of its pixels."""
    head = chunk(b"IHDR", struct.pack(">IIBBBBB", side, side, 8, 0, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + head + b"".join(more) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


@cache
def zeros(count: int) -> bytes:
    """Deflated."""
    deflating = zlib.compressobj(9)
    parts = [deflating.compress(bytes(MIB)) for _ in range(count // MIB)]
    return b"".join(parts) + deflating.flush()


def wide_png() -> bytes:
    """Sixty-four million pixels in 64 KB."""
    return png(8000, rows=zeros(64 * MIB))


def deep_png() -> bytes:
    """Sixteen pixels a side, and 64 MB behind them in the same stream."""
    return png(16, rows=zeros(64 * MIB))


def wordy_png() -> bytes:
    """Sixteen pixels a side, and a text of 64 MB."""
    return png(16, chunk(b"zTXt", b"k\0\0" + zeros(64 * MIB)), rows=zlib.compress(bytes(17 * 16)))


def coloured_png() -> bytes:
    """Sixteen pixels a side, and a colour profile of 64 MB."""
    return png(16, chunk(b"iCCP", b"k\0\0" + zeros(64 * MIB)), rows=zlib.compress(bytes(17 * 16)))


def wide_jpeg() -> bytes:
    """A small JPEG whose head says that it has four thousand million pixels."""
    sink = io.BytesIO()
    PIL.Image.fromarray(np.zeros((16, 16, 3), np.uint8)).save(sink, "JPEG")
    data = bytearray(sink.getvalue())
    at = data.index(b"\xff\xc0") + 5
    data[at : at + 4] = struct.pack(">HH", 65500, 65500)
    return bytes(data)


BOMBS: Mapping[str, tuple[Callable[[], bytes], set[str]]] = {
    "wide-png": (wide_png, {"image-too-large"}),
    "wide-jpeg": (wide_jpeg, {"image-too-large"}),
    "deep-png": (deep_png, {"image-invalid", "answered"}),
    "wordy-png": (wordy_png, {"image-invalid", "answered"}),
    "coloured-png": (coloured_png, {"image-invalid", "answered"}),
}
Send = Callable[[Any, Any, bytes], Coroutine[Any, Any, str]]  # desk, class of sockets, bomb -> how it ended


def form(**parts: bytes) -> bytes:
    """A form with the boundary b."""
    head = '--b\r\nContent-Disposition: form-data; name="{}"; filename="a"\r\n\r\n'
    return b"".join(head.format(name).encode() + data + b"\r\n" for name, data in parts.items()) + b"--b--\r\n"


def posted(path: str, kind: str, write: Callable[[bytes], bytes]) -> Send:
    """Through a route, as a body."""

    async def send(desk: Any, _: Any, bomb: bytes) -> str:
        async with desk.client() as client:
            reply = await client.post(path, content=write(bomb), headers={"content-type": kind})
        return "answered" if reply.status_code == 200 else str(reply.json()["code"])

    return send


def streamed(write: Callable[[bytes], bytes | str]) -> Send:
    """Over the native stream."""

    async def send(desk: Any, sockets: Any, bomb: bytes) -> str:
        async with sockets(desk.app) as client:
            await client.hear("hello")
            client.put(write(bomb))
            answer = await client.hear()
        return "answered" if answer["type"] == "action" else str(answer["problem"]["code"])

    return send


async def openpi(desk: Any, sockets: Any, bomb: bytes) -> str:
    """Over openpi's wire."""
    async with sockets(desk.app, "/", protocol=None) as client:
        await client.hear_data()
        client.put(pack({"observation/image": bomb, "prompt": "go"}))
        answer = await client.hear_data()
    return answer.partition(":")[0] if isinstance(answer, str) else "answered"


def text(bomb: bytes) -> str:
    """Base64."""
    return base64.b64encode(bomb).decode()


def framed(bomb: Any) -> dict[str, Any]:
    """A message of the stream."""
    return {"type": "frame", "session_id": "arm", "image": bomb, **WORDS}


DOORS: Mapping[str, Send] = {
    "json": posted("/act", "application/json", lambda bomb: json.dumps({"image": text(bomb), **WORDS}).encode()),
    "data-uri": posted(
        "/v1/act",
        "application/json",
        lambda bomb: json.dumps({"image": "data:image/png;base64," + text(bomb), **WORDS}).encode(),
    ),
    "double": posted(
        "/act",
        "application/json",
        lambda bomb: json.dumps({"encoded": json.dumps({"image": text(bomb), **WORDS})}).encode(),
    ),
    "oft": posted("/act", "application/json", lambda bomb: json.dumps({"full_image": text(bomb), **WORDS}).encode()),
    "msgpack": posted("/v1/act", "application/msgpack", lambda bomb: pack({"image": bomb, **WORDS})),
    "image-map": posted(
        "/v1/act",
        "application/msgpack",
        lambda bomb: pack({"image": {"__image__": True, "format": "png", "data": bomb}, **WORDS}),
    ),
    "form": posted(
        "/v1/act", "multipart/form-data; boundary=b", lambda bomb: form(image=bomb, json=json.dumps(WORDS).encode())
    ),
    "cogact": posted(
        "/api/inference",
        "multipart/form-data; boundary=b",
        lambda bomb: form(images=bomb, json=b'{"task_description": "go"}'),
    ),
    "stream": streamed(lambda bomb: pack(framed(bomb))),
    "stream-json": streamed(lambda bomb: json.dumps(framed(text(bomb)))),
    "openpi": openpi,
}


def blown(desk: Any, sockets: Any, door: str, bomb: bytes) -> tuple[str, int]:
    """How a bomb ended, and the most memory that was taken meanwhile, beyond a frame that was read before."""

    async def send(data: bytes) -> str:
        async with asyncio.timeout(WAIT_S):
            return await DOORS[door](desk, sockets, data)

    async def both() -> tuple[str, int]:
        sink = io.BytesIO()
        PIL.Image.fromarray(np.zeros((16, 16), np.uint8)).save(sink, "PNG")
        assert await send(sink.getvalue()) == "answered"
        tracemalloc.start()
        try:
            ended = await send(bomb)
            return ended, tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

    return asyncio.run(both())


@pytest.mark.few(19)
@pytest.mark.parametrize("door", list(DOORS))
@pytest.mark.parametrize("kind", list(BOMBS))
def test_a_bomb(desk: Any, socket: Any, kind: str, door: str) -> None:
    """It is refused, or is the small picture that its head says; either way in little memory."""
    make, expected = BOMBS[kind]
    bomb = make()
    ended, peak = blown(desk, socket, door, bomb)

    assert ended in expected
    assert peak < 8 * len(bomb) + MOST_BYTES
    assert all(observation.images["front"].size <= 16 * 16 * 3 for observation in desk.policy.seen)


@pytest.mark.parametrize("door", list(DOORS))
@pytest.mark.parametrize("kind", ["wide-png", "wide-jpeg"])
def test_the_head_is_enough(desk: Any, socket: Any, monkeypatch: pytest.MonkeyPatch, kind: str, door: str) -> None:
    """Of a picture over the limits the decoder sees nothing."""
    opened: list[Any] = []
    whole = PIL.Image.open

    def opening(file: Any, *arguments: Any, **options: Any) -> Any:
        opened.append(file)
        return whole(file, *arguments, **options)

    monkeypatch.setattr(PIL.Image, "open", opening)
    ended, _ = blown(desk, socket, door, BOMBS[kind][0]())

    assert ended == "image-too-large"
    assert len(opened) == 1  # of the frame that was read before


HUGE = b"\xc4\x05shape\x93\xce\x7f\xff\xff\xff\xce\x7f\xff\xff\xff\x03"
PROMISES = [
    ("msgpack", b"\x81\xa5image\x84\xc4\x0b__ndarray__\xc3\xc4\x04data\xc4\0\xc4\x05dtype\xa3|u1" + HUGE),
    (
        "json",
        b'{"image": {"__numpy__": "", "dtype": "|u1", "shape": [2147483647, 2147483647, 3]}, "instruction": "go"}',
    ),
    ("json", b'{"image": {"__numpy__": "AAAA", "dtype": "|u1", "shape": [2000, 2000, 3]}, "instruction": "go"}'),
    ("msgpack", b"\xde\xff\xff\xa5image\xc6\x7f\xff\xff\xff"),
    ("msgpack", b"\xdf\xff\xff\xff\xff"),
]


@pytest.mark.parametrize(("kind", "body"), PROMISES)
def test_promises_are_not_believed(desk: Any, kind: str, body: bytes) -> None:
    """Nothing is allocated for a shape or a length whose bytes did not come."""
    tracemalloc.start()
    try:
        reply = desk.ask("POST", "/v1/act", content=body, headers={"content-type": f"application/{kind}"})
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()

    assert reply.status_code in {400, 413, 422}
    assert peak < 2 * MIB


def test_a_compressed_body_is_not_unpacked(desk: Any) -> None:
    """Content-Encoding is refused, whatever it packs."""
    reply = desk.ask("POST", "/v1/act", content=zeros(64 * MIB), headers={"content-encoding": "deflate"})

    assert (reply.status_code, reply.json()["code"]) == (400, "bad-codec")
