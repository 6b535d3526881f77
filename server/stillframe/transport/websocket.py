"""uvicorn's WebSocket protocol with bounds on fragments, control frames, buffered bytes and parsing per turn.

Knows no message. A connection that breaks a bound is closed with 1008 or 1009 and a reason.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from websockets.frames import Frame

from stillframe.transport.bounds import (
    BYTES_PER_EVENT,
    CONTROL_FRAME_BURST,
    CONTROL_FRAMES_PER_S,
    FRAMES_PER_TURN,
    MAX_FRAGMENTS,
    SLICE_BYTES,
    THROTTLE_DELAY_S,
)
from stillframe.transport.connections import ConnectionTable, Stage
from stillframe.web.http.token_bucket import TokenBucket
from stillframe.web.middleware.addresses import client_network
from stillframe_client.wire import POLICY, TOO_BIG

if TYPE_CHECKING:
    from uvicorn._types import ASGIReceiveEvent, ASGISendEvent

INVALID_TEXT = 1007  # RFC 6455, 7.4.1


class WebSocketConnection(WebSocketsSansIOProtocol):
    """One connection, parsed a turn at a time, so that other connections are served between turns.

    Not read while the app has not taken its last message, nor while the client does not read.

    uvicorn 0.54 logs two client mistakes as errors, an upgrade refused with a response and text that is not UTF-8:
    clients could fill the log. Its pull request 3138 fixes the first.
    """

    def __init__(self, *args: Any, table: ConnectionTable, **kwargs: Any):
        super().__init__(*args, **kwargs)
        self.address = ""
        self.since_s = table.clock()
        self._table = table
        self._unparsed = memoryview(b"")
        self._events = table.event_bucket(self)
        self._frames = 0  # parsed in this turn
        self._fragments = 0  # of the current message
        self._control = TokenBucket(CONTROL_FRAMES_PER_S, CONTROL_FRAME_BURST, table.clock())
        self._resume_scheduled = False  # parsing continues in a later turn of the loop

    @property
    def stage(self) -> Stage:
        """Always BUSY: never evicted, as its caller was authenticated."""
        return Stage.BUSY

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Add it to the table, which its HTTP connection has just left."""
        super().connection_made(transport)
        self.address = client_network(self.client[0]) if self.client else ""
        self._events = self._table.event_bucket(self)
        self._table.add(self)

    def connection_lost(self, exc: Exception | None) -> None:
        """Remove it from the table."""
        self._table.remove(self)
        self._unparsed = memoryview(b"")
        super().connection_lost(exc)

    def abort(self) -> None:
        """Close it now."""
        self.transport.abort()

    def data_received(self, data: bytes) -> None:
        """Charge its bytes, and parse it for a turn."""
        self._events.charge(len(data) / BYTES_PER_EVENT)
        self._unparsed = memoryview(bytes(self._unparsed) + data if self._unparsed else data)
        if not self._resume_scheduled:
            self._parse()

    def pause_writing(self) -> None:
        """The client does not read: stop reading from it."""
        super().pause_writing()
        if not self.transport.is_closing():
            self.transport.pause_reading()

    def resume_writing(self) -> None:
        """The client reads again: resume."""
        super().resume_writing()
        self._resume_soon()

    async def receive(self) -> ASGIReceiveEvent:
        """Return a message to the app, and continue parsing."""
        message = await super().receive()
        if not self.read_paused:
            self._resume_soon()
        return message

    async def send(self, message: ASGISendEvent) -> None:
        """Pass on what the app sends."""
        await super().send(message)
        if message["type"] == "websocket.http.response.body" and self.close_sent:
            self.handshake_complete = True

    def handle_text(self, event: Frame) -> None:
        """Begin a message."""
        self._begin()
        super().handle_text(event)

    def handle_bytes(self, event: Frame) -> None:
        """Begin a message."""
        self._begin()
        super().handle_bytes(event)

    def handle_cont(self, event: Frame) -> None:
        """Continue a message, unless it has over MAX_FRAGMENTS fragments."""
        self._frames += 1
        self._fragments += 1
        if self._fragments > MAX_FRAGMENTS:
            self._refuse(TOO_BIG, f"over {MAX_FRAGMENTS} fragments in one message")
        else:
            super().handle_cont(event)

    def handle_ping(self) -> None:
        """Answer a ping within the rate of control frames."""
        self._count_control_frame()
        super().handle_ping()

    def handle_pong(self, event: Frame) -> None:
        """Accept a pong within the rate of control frames."""
        self._count_control_frame()
        super().handle_pong(event)

    def send_receive_event_to_app(self) -> None:
        """Queue a complete message for the app; a text message that is not UTF-8 closes the connection."""
        if self.curr_msg_data_type != "text" or self.close_sent:
            super().send_receive_event_to_app()
            return
        try:
            text = b"".join(self.frames).decode()
        except UnicodeDecodeError:
            self._refuse(INVALID_TEXT, "")
            return
        self.frames = []
        self.queue.put_nowait({"type": "websocket.receive", "text": text})  # as uvicorn does, which logs bad text
        if not self.read_paused:
            self.read_paused = True
            self.transport.pause_reading()

    def _parse(self) -> None:
        """Parse as much as one turn allows."""
        self._frames = 0
        allowed = min(FRAMES_PER_TURN, self._events.available(self._table.clock()))
        while self._unparsed and self._frames < allowed and self._accepts:
            piece, self._unparsed = self._unparsed[:SLICE_BYTES], self._unparsed[SLICE_BYTES:]
            super().data_received(bytes(piece))
        self._events.charge(self._frames)
        unread_bytes = len(self._unparsed) + len(self.conn.reader.buffer)
        self._table.set_buffered(self, unread_bytes + (self.conn.current_size or 0))
        if self.transport.is_closing():  # nothing is read any more; of a closed TLS transport nothing can be asked
            return
        if not self._accepts or self._unparsed:
            self.transport.pause_reading()
        if self._accepts and self._unparsed:
            self._resume_soon(THROTTLE_DELAY_S if allowed < 1 else 0.0)

    @property
    def _accepts(self) -> bool:
        """Whether parsing may continue now."""
        return not self.read_paused and self.writable.is_set() and not self.transport.is_closing()

    def _resume_soon(self, in_s: float = 0.0) -> None:
        if not self._resume_scheduled:
            self._resume_scheduled = True
            self.loop.call_later(in_s, self._resume)

    def _resume(self) -> None:
        self._resume_scheduled = False
        self._parse()
        if self._accepts and not self._unparsed:
            self.transport.resume_reading()

    def _begin(self) -> None:
        self._frames += 1
        self._fragments = 1

    def _count_control_frame(self) -> None:
        self._frames += 1
        if not self._control.take(self._table.clock()):
            self._refuse(POLICY, f"over {CONTROL_FRAMES_PER_S:g} pings and pongs a second")

    def _refuse(self, code: int, reason: str) -> None:
        """Close the connection with a code, once."""
        self.frames = []
        if self.close_sent:
            return
        self._table.closed_by_bound["malformed" if code == INVALID_TEXT else "too-many-parts"] += 1
        self.conn.fail(code, reason)
        if self.conn.close_sent is None:  # not accepted yet: no close frame can be sent
            self.abort()
        else:
            self.handle_parser_exception()
