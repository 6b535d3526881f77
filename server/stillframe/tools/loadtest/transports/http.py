"""HTTP transport, and the minimal HTTP/1.1 keep-alive connection under it.

Knows as much HTTP as the daemon speaks. A general client spends more time on a request than the daemon does.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any
from urllib.parse import quote

import httpx

from stillframe.tools.loadtest.transports.base import (
    UNKNOWN,
    FrameOutcome,
    FrameResult,
    ReplyHandler,
    Robot,
    parse_reply,
)
from stillframe_client import BadReply, PolicyError, Unreachable, WireError
from stillframe_client.arguments import base_url, bearer
from stillframe_client.wire import MSGPACK, pack

PORTS = {"http": 80, "https": 443}
JSON_TYPE, MSGPACK_TYPE = "application/json", "application/msgpack"
UNREACHABLE = "unreachable"  # the code of a frame whose connection broke
CONNECTIONS = 4  # frames of a robot in flight


@dataclass(frozen=True)
class Reply:
    """A response."""

    status: int
    headers: dict[str, str]  # names in lower case
    body: bytes


class KeepAliveConnection:
    """A keep-alive connection: one request at a time."""

    def __init__(self, url: str, token: str | None = None):
        self._url = httpx.URL(base_url(url))
        self._token = bearer(token)
        self._ends: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def ask(
        self, method: str, path: str, body: bytes, content_type: str, headers: Mapping[str, str] = MappingProxyType({})
    ) -> Reply:
        """Send a request and await its response. Raises Unreachable, BadReply."""
        try:
            reader, writer = await self._connected()
            writer.write(self._head(method, path, body, {"Content-Type": content_type, **headers}) + body)
            await writer.drain()
            reply = await _reply(reader)
        except (OSError, asyncio.IncompleteReadError) as error:
            self.close()
            raise Unreachable(f"The connection to {self._url} broke before the answer.") from error
        except (
            BaseException
        ):  # cancelled half-way, for example: the rest of the response must not answer the next request
            self.close()
            raise
        if reply.headers.get("connection") == "close":
            self.close()
        return reply

    def close(self) -> None:
        """Disconnect."""
        if self._ends is not None:
            self._ends[1].close()
            self._ends = None

    async def _connected(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        if self._ends is not None and self._ends[0].at_eof():  # the daemon closes idle connections
            self.close()
        if self._ends is None:
            port = self._url.port or PORTS[self._url.scheme]
            self._ends = await asyncio.open_connection(self._url.host, port, ssl=self._url.scheme == "https" or None)
        return self._ends

    def _head(self, method: str, path: str, body: bytes, headers: dict[str, str]) -> bytes:
        named = {"Host": self._url.netloc.decode(), **self._token, **headers, "Content-Length": str(len(body))}
        path = self._url.path.rstrip("/") + path
        lines = [f"{method} {path} HTTP/1.1", *(f"{name}: {value}" for name, value in named.items()), "", ""]
        return "\r\n".join(lines).encode()


class HttpTransport:
    """Implements base.Transport."""

    def __init__(self, robot: Robot, handler: ReplyHandler):
        self._robot = robot
        self._handler = handler
        target = robot.target
        self._path = f"/v1/sessions/{quote(robot.session_id, safe='')}"
        self._free: asyncio.LifoQueue[KeepAliveConnection] = asyncio.LifoQueue()
        for _ in range(CONNECTIONS):
            self._free.put_nowait(KeepAliveConnection(target.url, target.token))
        self._asking: set[asyncio.Task[None]] = set()

    async def open(self) -> None:
        """See base.Transport."""
        service = "realtime" if self._robot.realtime else "lockstep"
        await self._ask("POST", "/v1/sessions", {"session_id": self._robot.session_id, "service": service})

    async def send(self, seq: int) -> None:
        """See base.Transport."""
        connection = await self._free.get()
        task = asyncio.create_task(self._frame(connection, seq))
        self._asking.add(task)
        task.add_done_callback(self._asking.discard)

    async def close(self) -> None:
        """See base.Transport."""
        for task in list(self._asking):
            task.cancel()
        with contextlib.suppress(PolicyError):
            await self._ask("DELETE", self._path, {})
        while not self._free.empty():
            self._free.get_nowait().close()

    async def _ask(self, method: str, path: str, fields: dict[str, Any]) -> Reply:
        connection = KeepAliveConnection(self._robot.target.url, self._robot.target.token)
        try:
            return await connection.ask(method, path, json.dumps(fields).encode(), JSON_TYPE)
        finally:
            connection.close()

    async def _frame(self, connection: KeepAliveConnection, seq: int) -> None:
        body = pack(self._robot.target.fields(seq))  # without a seq: two connections may swap two frames
        try:
            reply = await connection.ask("POST", f"{self._path}/act", body, MSGPACK_TYPE)
        except PolicyError:
            self._handler.on_result(FrameResult(seq, FrameOutcome.PROBLEM, UNREACHABLE))
        else:
            self._handler.on_result(_frame_result(seq, reply))
        finally:
            self._free.put_nowait(connection)


def _frame_result(seq: int, reply: Reply) -> FrameResult:
    try:
        if reply.status == 200:
            return parse_reply(seq, "action", MSGPACK.load(reply.body))
        return parse_reply(seq, "problem", {"problem": json.loads(reply.body)})
    except (WireError, ValueError):
        return FrameResult(seq, FrameOutcome.PROBLEM, UNKNOWN)


async def _reply(reader: asyncio.StreamReader) -> Reply:
    try:
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        status = int(head[0].split(" ")[1])
        pairs = (line.split(":", 1) for line in head[1:] if line)
        headers = {name.lower(): value.strip() for name, value in pairs}
        length = int(headers.get("content-length", "0"))
    except (ValueError, IndexError, asyncio.LimitOverrunError) as error:
        raise BadReply("What answers speaks no HTTP that a daemon of ours would.") from error
    return Reply(status, headers, await reader.readexactly(length))
