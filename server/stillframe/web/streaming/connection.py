"""One WebSocket: receive and send messages, sends with a deadline.

Knows no message's meaning. Reading and sending may run concurrently; sends are serialised.
"""

from __future__ import annotations

import asyncio
import contextlib

from starlette.websockets import WebSocket, WebSocketDisconnect, WebSocketState

MAX_REASON_BYTES = 120  # a close frame holds 125, two of them the code

Message = bytes | str

# Raised for a client that has disconnected: by starlette, by uvicorn, and by both once a close was sent.
_GONE = (WebSocketDisconnect, OSError, RuntimeError)


class Disconnected(Exception):
    """The connection is over: the client left, does not read, or it was closed."""


class Connection:
    """An admitted WebSocket."""

    def __init__(self, websocket: WebSocket, *, send_timeout_s: float):
        self.websocket = websocket
        self._send_timeout_s = send_timeout_s
        self._sending = asyncio.Lock()

    async def accept(self, subprotocol: str | None = None) -> None:
        """Accept the upgrade. Raises Disconnected."""
        try:
            await self.websocket.accept(subprotocol)
        except _GONE as error:
            raise Disconnected from error

    async def read(self) -> Message:
        """Return the next message. Raises Disconnected once the client has left."""
        message = await self.websocket.receive()
        if message["type"] == "websocket.disconnect":
            raise Disconnected
        data: Message | None = message.get("bytes")
        return message["text"] if data is None else data

    async def send(self, data: Message) -> None:
        """Send one message. Raises Disconnected if the client left or sending, queueing included, timed out."""
        try:
            async with asyncio.timeout(self._send_timeout_s), self._sending:
                if isinstance(data, str):
                    await self.websocket.send_text(data)
                else:
                    await self.websocket.send_bytes(data)
        except _GONE as error:  # TimeoutError is an OSError
            raise Disconnected from error

    async def close(self, code: int, reason: str = "") -> None:
        """Send a close frame, if the connection is still open."""
        if self.websocket.application_state is WebSocketState.CONNECTED:
            with contextlib.suppress(*_GONE):
                async with asyncio.timeout(self._send_timeout_s):
                    await self.websocket.close(code, reason.encode()[:MAX_REASON_BYTES].decode(errors="ignore"))
