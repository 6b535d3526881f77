"""Hostile or broken clients: each does one thing to a daemon for as long as it is allowed to.

Knows sockets, HTTP and WebSocket byte by byte; no daemon. Run as a process of its own, at the lowest priority:
`python -m stillframe.tools.loadtest.hostile.neighbours KIND HOST PORT TOKEN SECONDS`.
"""

from __future__ import annotations

import asyncio
import contextlib
import io
import os
import random
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from itertools import count
from types import MappingProxyType

import numpy as np
from PIL import Image

from stillframe_client.wire import pack

PAUSE_S = 0.05  # after a connection that was refused or cut, before the next
HOSTILE_ADDRESS = "127.0.0.2"  # another address of this machine than the robot's, as a neighbour has


Ends = tuple[asyncio.StreamReader, asyncio.StreamWriter]


@dataclass(frozen=True)
class Daemon:
    """Where it is, and a token that opens it."""

    host: str
    port: int
    token: str

    def head(self, method: str, path: str, *headers: str) -> bytes:
        """A request's head."""
        own = [f"Host: {self.host}:{self.port}", f"Authorization: Bearer {self.token}"]
        return "\r\n".join([f"{method} {path} HTTP/1.1", *own, *headers, "", ""]).encode()

    async def dial(self) -> Ends:
        """A connection from the neighbour's address, where this system has it."""
        try:
            return await asyncio.open_connection(self.host, self.port, local_addr=(HOSTILE_ADDRESS, 0))
        except OSError:
            return await asyncio.open_connection(self.host, self.port)

    @asynccontextmanager
    async def connected(self) -> AsyncIterator[Ends]:
        """A connection while the block lasts."""
        reader, writer = await self.dial()
        try:
            yield reader, writer
        finally:
            writer.transport.abort()

    @asynccontextmanager
    async def websocket(self, path: str = "/v1/stream") -> AsyncIterator[Ends]:
        """A WebSocket, upgraded, while the block lasts."""
        upgrade = ("Upgrade: websocket", "Connection: Upgrade", "Sec-WebSocket-Version: 13")
        async with self.connected() as (reader, writer):
            writer.write(self.head("GET", path, *upgrade, "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA=="))
            await reader.readuntil(b"\r\n\r\n")
            yield reader, writer


Act = Callable[[Daemon], Awaitable[None]]


async def silent(daemon: Daemon) -> None:
    """Connections that send half a head and no more, as many as can be had."""
    async with daemon.connected() as (_, writer):
        writer.write(b"GET / HTTP/1.1\r\nX-Half: ")
        await asyncio.sleep(3600)


async def streams(daemon: Daemon) -> None:
    """WebSockets that say nothing, as many as can be had."""
    async with daemon.websocket():
        await asyncio.sleep(3600)


async def chunks(daemon: Daemon) -> None:
    """A body in chunks of one byte, without an end."""
    async with daemon.connected() as (reader, writer):
        writer.write(daemon.head("POST", "/v1/act", "Transfer-Encoding: chunked", "Content-Type: application/json"))
        await _poured(reader, writer, b"1\r\nx\r\n" * 10_000)


async def fragments(daemon: Daemon) -> None:
    """A WebSocket message in fragments of one byte, without an end."""
    async with daemon.websocket() as (reader, writer):
        writer.write(_frame(2, b"x", last=False))
        await _poured(reader, writer, _frame(0, b"x", last=False) * 10_000)


async def pings(daemon: Daemon) -> None:
    """Pings of 125 bytes to a connection whose answers are never read."""
    async with daemon.websocket() as (_, writer):
        while True:
            writer.write(_frame(9, bytes(125)) * 1000)
            await writer.drain()


async def large_pings(daemon: Daemon) -> None:
    """JSON pings of a megabyte on the stream."""
    async with daemon.websocket() as (reader, writer):
        text = b'{"type": "ping", "x": "' + b"y" * 2**20 + b'"}'
        await _poured(reader, writer, _frame(1, text))


async def refused(daemon: Daemon) -> None:
    """Requests that are refused at once and whose bodies trickle in for as long as they may."""
    async with daemon.connected() as (reader, writer):
        writer.write(daemon.head("POST", "/nope", "Content-Length: 1000000000"))
        await _poured(reader, writer, b"x", pause_s=0.2)


async def bodies(daemon: Daemon) -> None:
    """Bodies of 15 MiB that stop a byte before their end."""
    async with daemon.connected() as (reader, writer):
        length = 15 * 2**20
        writer.write(daemon.head("POST", "/v1/act", f"Content-Length: {length}", "Content-Type: application/json"))
        writer.write(bytes(length - 1))
        await reader.read()


async def malformed(daemon: Daemon) -> None:
    """Noise instead of requests, frames and messages, one connection each."""
    noise = random.Random()  # noqa: S311 (no secret)
    body = noise.randbytes(noise.randrange(1, 4000))
    kind = noise.choice(("application/json", "application/msgpack", "multipart/form-data; boundary=b"))
    head = daemon.head("POST", "/v1/act", f"Content-Length: {len(body)}", f"Content-Type: {kind}", "Connection: close")
    async with daemon.connected() as (reader, writer):
        writer.write(noise.choice((body, head + body)))
        writer.write_eof()
        await reader.read()


async def requests(daemon: Daemon) -> None:
    """Small requests as fast as they are answered."""
    await _asked(daemon, lambda _: daemon.head("GET", "/v1/status"))


async def sessions(daemon: Daemon) -> None:
    """New sessions as fast as they are opened, none of them closed."""
    body = b"{}"
    await _asked(daemon, lambda _: daemon.head("POST", "/v1/sessions", f"Content-Length: {len(body)}") + body)


async def frames(daemon: Daemon) -> None:
    """Frames without a session, as fast as they are answered, on several connections."""
    body = _picture()
    kind = "Content-Type: application/msgpack"
    await _asked(daemon, lambda _: daemon.head("POST", "/v1/act", kind, f"Content-Length: {len(body)}") + body)


async def robots(daemon: Daemon) -> None:
    """Frames of ever new sessions of the client's choice, on several connections."""
    body = _picture()
    kind = "Content-Type: application/msgpack"

    def frame(number: int) -> bytes:
        session = f"X-Session-Id: r{os.getpid()}-{random.getrandbits(24)}-{number % 50}"
        return daemon.head("POST", "/v1/act", kind, session, f"Content-Length: {len(body)}") + body

    await _asked(daemon, frame)


# Kind -> what it does, and how many of it there are at once.
KINDS: Mapping[str, tuple[Act, int]] = MappingProxyType(
    {
        "silent connections": (silent, 2000),
        "idle WebSockets": (streams, 400),
        "a body in tiny chunks": (chunks, 2),
        "a message in tiny fragments": (fragments, 2),
        "pings, answers unread": (pings, 2),
        "pings of a megabyte": (large_pings, 4),
        "bodies of refused requests": (refused, 50),
        "bodies that stop short": (bodies, 60),
        "malformed messages": (malformed, 8),
        "small requests": (requests, 8),
        "new sessions": (sessions, 4),
        "frames without a session": (frames, 16),
        "frames of ever new sessions": (robots, 16),
    }
)


async def run_neighbour(kind: str, daemon: Daemon, seconds: float) -> None:
    """Run a kind for so long; a connection that is cut or refused is opened again."""
    act, at_once = KINDS[kind]

    async def again() -> None:
        while True:
            with contextlib.suppress(OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError, ValueError):
                await act(daemon)
            await asyncio.sleep(PAUSE_S)

    tasks = [asyncio.create_task(again()) for _ in range(at_once)]
    await asyncio.sleep(seconds)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


async def _poured(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, data: bytes, *, pause_s: float = 0.0
) -> None:
    """Send it again and again until the other end has gone; what it says is read and thrown away."""
    reading = asyncio.create_task(_drained(reader))
    try:
        while not reading.done():
            writer.write(data)
            await writer.drain()
            await asyncio.sleep(pause_s)
    finally:
        reading.cancel()


async def _drained(reader: asyncio.StreamReader) -> None:
    with contextlib.suppress(OSError):
        while await reader.read(65536):
            pass


async def _asked(daemon: Daemon, request: Callable[[int], bytes]) -> None:
    """One request after another on a connection that is kept."""
    async with daemon.connected() as (reader, writer):
        for number in count():
            writer.write(request(number))
            head = (await reader.readuntil(b"\r\n\r\n")).lower()
            await reader.readexactly(int(head.split(b"content-length:")[1].split(b"\r\n")[0]))


def _picture() -> bytes:
    sink = io.BytesIO()
    pixels = np.random.default_rng(0).integers(0, 255, (224, 224, 3), np.uint8)
    Image.fromarray(pixels).save(sink, "JPEG")
    return pack({"image": sink.getvalue(), "instruction": "pick up the red cube"})


def _frame(opcode: int, data: bytes, *, last: bool = True) -> bytes:
    """A client's WebSocket frame; its mask is zeros."""
    size = len(data)
    length = bytes([0x80 | size]) if size < 126 else b"\xff" + size.to_bytes(8, "big")
    return bytes([opcode | (0x80 if last else 0)]) + length + bytes(4) + data


def main() -> None:
    """See the module."""
    kind, host, port, token, seconds = sys.argv[1:]
    os.nice(19)
    asyncio.run(run_neighbour(kind, Daemon(host, int(port), token), float(seconds)))


if __name__ == "__main__":
    main()
