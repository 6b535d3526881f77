"""One WebSocket: messages in, messages out, each with a deadline.

Knows no message's meaning. Reading and sending may go on side by side; sends are one after the other.
"""

from __future__ import annotations

import asyncio
import contextlib

from starlette.websockets import WebSocket, WebSocketDisconnect, WebSocketState

MAX_REASON_BYTES = 120  # a close frame holds 125, two of them the code

Message = bytes | str

# What the layers below say of a client that is gone: starlette, uvicorn, and both once a close was sent.
_GONE = (WebSocketDisconnect, OSError, RuntimeError)


class Cut(Exception):
    """The conversation is over: the client is gone, does not read, or was told goodbye."""


class Connection:
    """A WebSocket that was let in."""

    def __init__(self, websocket: WebSocket, *, send_timeout_s: float):
        self.websocket = websocket
        self._send_timeout_s = send_timeout_s
        self._sending = asyncio.Lock()

    async def accept(self, subprotocol: str | None = None) -> None:
        """Answer the upgrade. Raises Cut."""
        try:
            await self.websocket.accept(subprotocol)
        except _GONE as error:
            raise Cut from error

    async def read(self) -> Message:
        """The next message. Raises Cut once the client has gone."""
        message = await self.websocket.receive()
        if message["type"] == "websocket.disconnect":
            raise Cut
        data: Message | None = message.get("bytes")
        return message["text"] if data is None else data

    async def send(self, data: Message) -> None:
        """Send one message. Raises Cut if that takes too long, in line behind others included, or nobody is there."""
        try:
            async with asyncio.timeout(self._send_timeout_s), self._sending:
                if isinstance(data, str):
                    await self.websocket.send_text(data)
                else:
                    await self.websocket.send_bytes(data)
        except _GONE as error:  # TimeoutError is an OSError
            raise Cut from error

    async def close(self, code: int, reason: str = "") -> None:
        """Say goodbye, if anybody is still there to hear it."""
        if self.websocket.application_state is WebSocketState.CONNECTED:
            with contextlib.suppress(*_GONE):
                async with asyncio.timeout(self._send_timeout_s):
                    await self.websocket.close(code, reason.encode()[:MAX_REASON_BYTES].decode(errors="ignore"))
