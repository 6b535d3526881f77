"""What the floor above the policy costs: one frame at a time, the policy's own time taken off.

Knows the native wires. All between the picture and the action is in it: both ends' codecs, threads, sockets.
"""

from __future__ import annotations

import asyncio
import base64
import json
import time
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from types import MappingProxyType
from typing import Any

from stillframe.bench.loadtest.report import Figures, times_ms
from stillframe.bench.loadtest.wires.base import OPEN_S, Target
from stillframe.bench.loadtest.wires.http import JSON_TYPE, MSGPACK_TYPE
from stillframe.bench.loadtest.wires.posting import Posting
from stillframe_client import BadReply
from stillframe_client.arguments import bearer, stream_url
from stillframe_client.replies import read_server_timing
from stillframe_client.sockets import dial
from stillframe_client.wire import MSGPACK, SESSION_HEADER, pack

FLOOR = frozenset({"receive", "unpack", "total"})  # stages that are not the policy's
REST_S = 0.1  # between frames: what the policy does in a pause is over by then

Stages = Mapping[str, float]  # ms
Ask = Callable[[int], Awaitable[Stages]]  # a frame by its seq; the stages that its answer tells


async def overhead(target: Target, frames: int, rest_s: float = REST_S) -> Figures:
    """Ask `frames` frames each way, in turns, and give what each way costs, ms. Raises PolicyError.

    The first frame of each way opens connections and session, and is not counted.
    """
    spent_s: dict[str, list[float]] = {name: [] for name in WAYS}
    whole_s: dict[str, list[float]] = {name: [] for name in WAYS}
    async with AsyncExitStack() as open_ways:
        asks = {name: await open_ways.enter_async_context(way(target)) for name, way in WAYS.items()}
        for seq in range(frames + 1):
            for name, ask in asks.items():
                took_s, policy_s = await _timed(ask, seq)
                if seq:
                    whole_s[name].append(took_s)
                    spent_s[name].append(took_s - policy_s)
                await asyncio.sleep(rest_s)
    return {name: {"overhead_ms": times_ms(spent_s[name]), "total_ms": times_ms(whole_s[name])} for name in WAYS}


async def _timed(ask: Ask, seq: int) -> tuple[float, float]:
    """How long a frame took, and how much of that was the policy's."""
    began_s = time.perf_counter()
    stages_ms = await ask(seq)
    took_s = time.perf_counter() - began_s
    return took_s, sum(ms for stage, ms in stages_ms.items() if stage not in FLOOR) / 1e3


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
    connection, session = Posting(target.url, target.token), {SESSION_HEADER: _new_id()}

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
