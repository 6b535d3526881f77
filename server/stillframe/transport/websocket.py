"""WebSockets as uvicorn speaks them, with bounds on fragments, control frames, and what is in memory or parsed at once.

Knows no message. A connection that breaks a bound is closed with 1008 or 1009 and a reason.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from websockets.frames import Frame

from stillframe.transport.allowances import Allowance
from stillframe.transport.bounds import (
    BYTES_AN_EVENT,
    CONTROL_FRAMES_AT_ONCE,
    CONTROL_FRAMES_PER_S,
    FRAMES_A_TURN,
    MOST_FRAGMENTS,
    REST_S,
    SLICE_BYTES,
)
from stillframe.transport.connections import Connections, Stage
from stillframe.web.middleware.addresses import address_of
from stillframe_client.wire import POLICY, TOO_BIG

if TYPE_CHECKING:
    from uvicorn._types import ASGIReceiveEvent, ASGISendEvent

INVALID_TEXT = 1007  # RFC 6455, 7.4.1


class WebSocketConnection(WebSocketsSansIOProtocol):
    """One connection, parsed a turn at a time: what is left has the next, so that others are served between.

    It is not read while the app has a message of it to take, nor while its client does not read what it is sent.

    uvicorn 0.54 logs as an error what is only its client's, an upgrade that was refused with a response and text that
    is no UTF-8: anybody could fill the log. Its pull request 3138 mends the first.
    """

    def __init__(self, *args: Any, book: Connections, **kwargs: Any):
        super().__init__(*args, **kwargs)
        self.address = ""
        self.since_s = book.clock()
        self._book = book
        self._unparsed = memoryview(b"")
        self._events = book.events_of(self)
        self._frames = 0  # that were parsed in this turn
        self._fragments = 0  # of the message that comes in
        self._control = Allowance(CONTROL_FRAMES_PER_S, CONTROL_FRAMES_AT_ONCE, book.clock())
        self._resumes = False  # parsing goes on in the loop's next turn

    @property
    def stage(self) -> Stage:
        """It never gives way: whose it is was asked before it was let in."""
        return Stage.ANSWERED_FOR

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Enter the book: the HTTP connection that it was has left it a moment ago."""
        super().connection_made(transport)
        self.address = address_of(self.client[0]) if self.client else ""
        self._events = self._book.events_of(self)
        self._book.enter(self)

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget it."""
        self._book.leave(self)
        self._unparsed = memoryview(b"")
        super().connection_lost(exc)

    def cut(self) -> None:
        """Close it now."""
        self.transport.abort()

    def data_received(self, data: bytes) -> None:
        """Count its bytes, and parse it for a turn."""
        self._events.owe(len(data) / BYTES_AN_EVENT)
        self._unparsed = memoryview(bytes(self._unparsed) + data if self._unparsed else data)
        if not self._resumes:
            self._parse()

    def pause_writing(self) -> None:
        """The client does not read: nor is it read."""
        super().pause_writing()
        self.transport.pause_reading()

    def resume_writing(self) -> None:
        """It reads again."""
        super().resume_writing()
        self._resume_soon()

    async def receive(self) -> ASGIReceiveEvent:
        """Hand the app a message, and parse on."""
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
        """Go on with a message, if it is not in too many fragments."""
        self._frames += 1
        self._fragments += 1
        if self._fragments > MOST_FRAGMENTS:
            self._refuse(TOO_BIG, f"over {MOST_FRAGMENTS} fragments in one message")
        else:
            super().handle_cont(event)

    def handle_ping(self) -> None:
        """Answer it, if it is one of not too many."""
        self._take_control()
        super().handle_ping()

    def handle_pong(self, event: Frame) -> None:
        """Take note of it."""
        self._take_control()
        super().handle_pong(event)

    def send_receive_event_to_app(self) -> None:
        """Pass on a message that has come whole; text that is none ends the connection."""
        if self.curr_msg_data_type == "text" and not self.close_sent and not _is_text(b"".join(self.frames)):
            self._refuse(INVALID_TEXT, "")
            return
        super().send_receive_event_to_app()

    def _parse(self) -> None:
        """As much as one turn allows."""
        self._frames = 0
        allowed = min(FRAMES_A_TURN, self._events.left(self._book.clock()))
        while self._unparsed and self._frames < allowed and self._takes:
            piece, self._unparsed = self._unparsed[:SLICE_BYTES], self._unparsed[SLICE_BYTES:]
            super().data_received(bytes(piece))
        self._events.owe(self._frames)
        self._book.holds(self, len(self._unparsed) + len(self.conn.reader.buffer) + (self.conn.current_size or 0))
        if not self._takes or self._unparsed:
            self.transport.pause_reading()
        if self._takes and self._unparsed:
            self._resume_soon(REST_S if allowed < 1 else 0.0)

    @property
    def _takes(self) -> bool:
        """Whether more may be parsed now."""
        return not self.read_paused and self.writable.is_set() and not self.transport.is_closing()

    def _resume_soon(self, in_s: float = 0.0) -> None:
        if not self._resumes:
            self._resumes = True
            self.loop.call_later(in_s, self._resume)

    def _resume(self) -> None:
        self._resumes = False
        self._parse()
        if self._takes and not self._unparsed:
            self.transport.resume_reading()

    def _begin(self) -> None:
        self._frames += 1
        self._fragments = 1

    def _take_control(self) -> None:
        self._frames += 1
        if not self._control.take(self._book.clock()):
            self._refuse(POLICY, f"over {CONTROL_FRAMES_PER_S:g} pings and pongs a second")

    def _refuse(self, code: int, reason: str) -> None:
        """Close it for what its client did, if that has not been done."""
        self.frames = []
        if self.close_sent:
            return
        self._book.cuts["malformed" if code == INVALID_TEXT else "too-many-parts"] += 1
        self.conn.fail(code, reason)
        if self.conn.close_sent is None:  # before it was let in: there is no goodbye yet
            self.cut()
        else:
            self.handle_parser_exception()


def _is_text(data: bytes) -> bool:
    try:
        data.decode()
    except UnicodeDecodeError:
        return False
    return True
