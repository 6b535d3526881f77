"""Overhead of serving: one frame at a time, less the policy's own time.

Knows the native transports. Includes all between picture and action: both ends' codecs, threads, sockets.
"""

from __future__ import annotations

import asyncio
import base64
import json
import time
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from statistics import median
from types import MappingProxyType
from typing import Any

from stillframe.tools.loadtest.report import Figures, times_ms
from stillframe.tools.loadtest.transports.base import OPEN_S, Target
from stillframe.tools.loadtest.transports.http import JSON_TYPE, MSGPACK_TYPE, KeepAliveConnection
from stillframe_client import BadReply
from stillframe_client.arguments import bearer, stream_url
from stillframe_client.replies import read_server_timing
from stillframe_client.streaming.websocket import dial
from stillframe_client.wire import MSGPACK, SESSION_HEADER, pack

REST_S = 0.1  # between frames: the policy's idle refresh is done by then

Stages = Mapping[str, float]  # ms
Ask = Callable[[int], Awaitable[Stages]]  # a frame's seq -> the stages in its reply


async def measure_overhead(target: Target, frames: int, rest_s: float = REST_S) -> Figures:
    """Send `frames` frames each way, alternating; the overhead of each way, in all and by part. Raises PolicyError.

    The first frame of each way opens connections and session, and is not counted.
    """
    timed: dict[str, list[TimedFrame]] = {name: [] for name in WAYS}
    async with AsyncExitStack() as open_ways:
        asks = {name: await open_ways.enter_async_context(way(target)) for name, way in WAYS.items()}
        for seq in range(frames + 1):
            for name, ask in asks.items():
                timed[name].append(await _timed(ask, seq))
                await asyncio.sleep(rest_s)
    return {name: _figures(times[1:]) for name, times in timed.items()}


@dataclass(frozen=True)
class TimedFrame:
    """One frame: total ms, and the stages in its reply."""

    took_ms: float
    stages_ms: Stages

    @property
    def spent_ms(self) -> Stages:
        """The overhead by part, without the policy's own stages."""
        stages_ms, total_ms = self.stages_ms, self.stages_ms["total"]
        return {
            "receive": stages_ms.get("receive", 0.0),  # the body
            "unpack": stages_ms["unpack"],  # bytes to pixels, with the hand-over to a thread
            "hand over": total_ms
            - sum(ms for stage, ms in stages_ms.items() if stage != "total"),  # between threads, sessions
            "outside": self.took_ms - total_ms,  # this client, the sockets, the server's HTTP or WebSocket
        }


async def _timed(ask: Ask, seq: int) -> TimedFrame:
    began_s = time.perf_counter()
    stages_ms = await ask(seq)
    return TimedFrame((time.perf_counter() - began_s) * 1e3, stages_ms)


def _figures(timed: Sequence[TimedFrame]) -> Figures:
    spent_ms = [each.spent_ms for each in timed]
    parts = {part: round(median(spent[part] for spent in spent_ms), 3) for part in spent_ms[0]}
    return {
        "overhead_ms": times_ms(sum(spent.values()) / 1e3 for spent in spent_ms),
        "of_which_p50_ms": parts,
        "total_ms": times_ms(each.took_ms / 1e3 for each in timed),
    }


@asynccontextmanager
async def _http_json(target: Target) -> AsyncIterator[Ask]:
    """POST /v1/act, the picture as base64 text."""

    def write(fields: dict[str, Any]) -> bytes:
        texts = {camera: base64.b64encode(jpeg).decode() for camera, jpeg in fields["images"].items()}
        return json.dumps({**fields, "images": texts}).encode()

    async with _http(target, write, JSON_TYPE, json.loads) as ask:
        yield ask


@asynccontextmanager
async def _http_msgpack(target: Target) -> AsyncIterator[Ask]:
    """POST /v1/act, the picture as it is."""
    async with _http(target, pack, MSGPACK_TYPE, MSGPACK.load) as ask:
        yield ask


@asynccontextmanager
async def _http(
    target: Target, write: Callable[[dict[str, Any]], bytes], content_type: str, read: Callable[[bytes], Any]
) -> AsyncIterator[Ask]:
    connection, session = KeepAliveConnection(target.url, target.token), {SESSION_HEADER: _new_id()}

    async def ask(seq: int) -> Stages:
        reply = await connection.ask("POST", "/v1/act", write(target.fields(seq)), content_type, session)
        if reply.status != 200:
            raise BadReply(f"POST /v1/act was answered with {reply.status}: {reply.body.decode(errors='replace')}")
        read(reply.body)
        return read_server_timing(reply.headers.get("server-timing", ""))[0]

    yield ask
    connection.close()


@asynccontextmanager
async def _stream(target: Target) -> AsyncIterator[Ask]:
    """A frame on the native stream."""
    socket = await dial(stream_url(target.url), headers=bearer(target.token), trust=None, timeout_s=OPEN_S)
    await socket.receive()  # hello
    session_id = _new_id()

    async def ask(seq: int) -> Stages:
        await socket.send(pack({"type": "frame", "session_id": session_id, **target.fields(seq)}))
        message = MSGPACK.load(await socket.receive())
        if message.get("type") != "action":
            raise BadReply(f"A frame was answered with {message}")
        stages_ms: Stages = message["timing_ms"]
        return stages_ms

    yield ask
    await socket.close()


def _new_id() -> str:
    return f"load-{uuid.uuid4().hex[:8]}"


WAYS = MappingProxyType({"http json": _http_json, "http msgpack": _http_msgpack, "stream": _stream})
