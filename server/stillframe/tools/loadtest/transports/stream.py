"""The native stream: one WebSocket, one session.

Knows the messages of docs/stream.md that a robot needs. Simpler than the client library: it never resumes or resends.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

from stillframe.tools.loadtest.transports.base import OPEN_S, ReplyHandler, Robot, parse_reply
from stillframe_client import BadReply, TimedOut
from stillframe_client.arguments import bearer, stream_url
from stillframe_client.streaming.websocket import Dropped, Socket, dial
from stillframe_client.wire import MSGPACK, WireError


class StreamTransport:
    """Implements base.Transport."""

    def __init__(self, robot: Robot, handler: ReplyHandler):
        self._robot = robot
        self._handler = handler
        self._socket: Socket | None = None
        self._reading: asyncio.Task[None] | None = None

    async def open(self) -> None:
        """See base.Transport."""
        target = self._robot.target
        self._socket = await dial(stream_url(target.url), headers=bearer(target.token), trust=None, timeout_s=OPEN_S)
        service = "realtime" if self._robot.realtime else "lockstep"
        opening = {"type": "open", "session_id": self._robot.session_id, "service": service}
        try:
            async with asyncio.timeout(OPEN_S):
                await self._until(self._socket, "hello")
                await self._socket.send(_packed(opening))
                await self._until(self._socket, "session", "problem")  # its frames will get the same problem
        except Dropped as error:
            raise error.close.unreachable() from error
        except TimeoutError as error:
            raise TimedOut(f"No session within {OPEN_S:.0f} s of connecting to {target.url}.") from error
        self._reading = asyncio.create_task(self._listen(self._socket))

    async def send(self, seq: int) -> None:
        """See base.Transport."""
        frame = {"type": "frame", "session_id": self._robot.session_id, "seq": seq, **self._robot.target.fields(seq)}
        await self._say(frame)

    async def close(self) -> None:
        """See base.Transport."""
        await self._say({"type": "close", "session_id": self._robot.session_id})
        if self._reading is not None:
            self._reading.cancel()
        if self._socket is not None:
            await self._socket.close()

    async def _say(self, message: Mapping[str, Any]) -> None:
        if self._socket is None:
            return
        try:
            await self._socket.send(_packed(message))
        except Dropped as dropped:
            self._handler.on_closed(str(dropped.close.unreachable()))

    async def _until(self, socket: Socket, *kinds: str) -> None:
        """Skip messages until one of these types."""
        while _read(await socket.receive()).get("type") not in kinds:
            pass

    async def _listen(self, socket: Socket) -> None:
        try:
            while True:
                self._hear(_read(await socket.receive()))
        except Dropped as dropped:
            self._handler.on_closed(str(dropped.close.unreachable()))
        except BadReply as error:
            self._handler.on_closed(str(error))

    def _hear(self, message: Mapping[str, Any]) -> None:
        kind, place = message.get("type"), message.get("session")
        if kind == "goaway":
            self._handler.on_closed("the daemon stops")
        elif isinstance(place, dict) and isinstance(seq := place.get("seq"), int):
            self._handler.on_result(parse_reply(seq, kind, message))


def _packed(message: Mapping[str, Any]) -> bytes:
    data = MSGPACK.dump(message)
    assert isinstance(data, bytes)  # noqa: S101 (msgpack is bytes)
    return data


def _read(data: bytes | str) -> Mapping[str, Any]:
    try:
        return MSGPACK.load(data)
    except WireError as error:
        raise BadReply(f"What the daemon sent is no message: {error}") from error
