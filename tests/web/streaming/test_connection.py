from __future__ import annotations

import asyncio

import pytest
from starlette.websockets import WebSocketDisconnect, WebSocketState

from stillframe.web.streaming.connection import Connection, Disconnected


class Peer:
    """A WebSocket whose other end does as it is told."""

    application_state = WebSocketState.CONNECTED

    def __init__(self, *messages, fails=None):
        self.messages, self.fails, self.sent = list(messages), fails, []

    async def receive(self):
        """The next message."""
        return self.messages.pop(0)

    async def send_bytes(self, data):
        """Take it, or fail."""
        if self.fails is not None:
            raise self.fails
        self.sent.append(data)

    send_text = send_bytes

    async def close(self, code, reason):
        """Take it as well."""
        await self.send_bytes((code, reason))


@pytest.mark.parametrize("reason", ["", "short", "x" * 500, "\u00e9" * 61, "\U0001f916" * 60])
def test_a_reason_fits_its_frame(reason):
    """Cut to what a close frame holds, between two letters."""
    peer = Peer()
    asyncio.run(Connection(peer, send_timeout_s=20).close(1011, reason))
    ((code, said),) = peer.sent

    assert code == 1011
    assert reason.startswith(said)
    assert len(said.encode()) <= 120
    assert len(said.encode()) > min(len(reason.encode()), 120) - 4


@pytest.mark.parametrize("fault", [WebSocketDisconnect(1006), OSError("reset"), RuntimeError("closed"), TimeoutError()])
def test_whatever_is_said_of_a_client_that_is_gone_ends_the_conversation(fault):
    """To send raises Disconnected; to say goodbye to nobody is no failure."""
    connection = Connection(Peer(fails=fault), send_timeout_s=20)
    for data in (b"bytes", "text"):
        with pytest.raises(Disconnected):
            asyncio.run(connection.send(data))
    asyncio.run(connection.close(1012))


def test_messages_come_as_they_were_sent():
    """An empty one too, of either kind; then the client goes."""
    sent = [{"bytes": b"a"}, {"bytes": b""}, {"text": "b"}, {"text": ""}, {"bytes": None, "text": "c"}]
    peer = Peer(*({"type": "websocket.receive", **each} for each in sent), {"type": "websocket.disconnect"})
    connection = Connection(peer, send_timeout_s=20)

    assert [asyncio.run(connection.read()) for _ in sent] == [b"a", b"", "b", "", "c"]
    with pytest.raises(Disconnected):
        asyncio.run(connection.read())
