"""openpi's WebSocket: raw pictures in, maps out, answered in order.

Knows no session: the daemon gives each connection its own. Unlike openpi's client, it does not wait for answers.
"""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Any

from stillframe.tools.loadtest.transports.base import (
    INSTRUCTION,
    OPEN_S,
    FrameOutcome,
    FrameResult,
    ReplyHandler,
    Robot,
)
from stillframe_client import TimedOut
from stillframe_client.arguments import STREAM_PATH, bearer, stream_url
from stillframe_client.streaming.websocket import Dropped, Socket, dial
from stillframe_client.wire import pack


class OpenPITransport:
    """Implements base.Transport."""

    def __init__(self, robot: Robot, handler: ReplyHandler):
        self._robot = robot
        self._handler = handler
        self._in_flight: deque[int] = deque()  # answers have no seq
        self._socket: Socket | None = None
        self._reading: asyncio.Task[None] | None = None

    async def open(self) -> None:
        """See base.Transport."""
        target = self._robot.target
        url = stream_url(target.url).removesuffix(STREAM_PATH) + "/"
        self._socket = await dial(url, headers=bearer(target.token), trust=None, timeout_s=OPEN_S)
        try:
            async with asyncio.timeout(OPEN_S):
                await self._socket.receive()  # the metadata
        except Dropped as error:
            raise error.close.unreachable() from error
        except TimeoutError as error:
            raise TimedOut(f"No metadata within {OPEN_S:.0f} s of connecting to {url}.") from error
        self._reading = asyncio.create_task(self._listen(self._socket))

    async def send(self, seq: int) -> None:
        """See base.Transport."""
        if self._socket is None:
            return
        self._in_flight.append(seq)
        try:
            await self._socket.send(pack(self._observation(seq)))
        except Dropped as dropped:
            self._handler.on_closed(str(dropped.close.unreachable()))

    async def close(self) -> None:
        """See base.Transport."""
        if self._reading is not None:
            self._reading.cancel()
        if self._socket is not None:
            await self._socket.close()

    def _observation(self, seq: int) -> dict[str, Any]:
        target = self._robot.target
        picture = target.views[seq % len(target.views)]
        cameras = {f"observation/{camera}": picture for camera in target.model.cameras}
        return {**cameras, "prompt": INSTRUCTION, **target.options()}

    async def _listen(self, socket: Socket) -> None:
        try:
            while True:
                self._hear(await socket.receive())
        except Dropped as dropped:
            self._handler.on_closed(str(dropped.close.unreachable()))

    def _hear(self, data: bytes | str) -> None:
        if not self._in_flight:
            return
        seq = self._in_flight.popleft()
        if isinstance(data, str):  # an error: code, detail
            self._handler.on_result(FrameResult(seq, FrameOutcome.PROBLEM, data.partition(":")[0]))
        else:
            self._handler.on_result(FrameResult(seq, FrameOutcome.ANSWERED))
