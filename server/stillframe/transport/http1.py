"""HTTP/1.1 as uvicorn speaks it, with bounds on heads, chunks, silence, and on what one read may have parsed at once.

Knows no route and no policy. What is wrong with a request before the app sees it is answered with a problem, too.
"""

from __future__ import annotations

import asyncio
import json
import math
import socket
from http import HTTPStatus
from typing import Any

import h11
from uvicorn.protocols.http.flow_control import FlowControl
from uvicorn.protocols.http.h11_impl import H11Protocol

from stillframe.errors import BadRequest, HeadTooLarge, Overloaded, RequestError, RequestTimeout, TooLarge
from stillframe.transport.bounds import (
    BYTES_AN_EVENT,
    EVENTS_A_TURN,
    HEAD_BYTES,
    HEAD_LINES,
    HEAD_S,
    LINGER_S,
    MOST_CHUNKS,
    REFUSED_BYTES_COST,
    REST_S,
    TARPIT_S,
)
from stillframe.transport.connections import Connections, Stage
from stillframe.web.http.problems import MEDIA_TYPE, NO_REQUEST_ID, problem_document
from stillframe.web.middleware.addresses import address_of

HALF_CLOSED_EVERY_S = 0.05  # how often it is asked whether a client that sends no more is still there
FULL_WAIT_S = 5.0


class Refused(h11.RemoteProtocolError):
    """A request that is refused for its form; `error` is what its client is told."""

    def __init__(self, error: RequestError):
        super().__init__(error.detail, error.status)
        self.error = error


class BoundedHttp(h11.Connection):
    """h11's parser, a turn at a time. Raises Refused for a head or a body in too many parts."""

    def __init__(self) -> None:
        super().__init__(h11.SERVER, HEAD_BYTES)
        self.fault: h11.RemoteProtocolError | None = None  # what was wrong with the request
        self.interrupted = False  # the turn ended before what was received was parsed
        self.left = EVENTS_A_TURN  # events of this turn
        self._chunks = 0  # of this request

    def begin_turn(self, events: int = EVENTS_A_TURN) -> None:
        """Allow so many events."""
        self.left, self.interrupted = events, False

    def next_event(self) -> Any:
        """See h11; at the end of a turn NEED_DATA, whatever there is."""
        if self.left < 1:
            self.interrupted = True
            return h11.NEED_DATA
        try:
            event = super().next_event()
            self._check(event)
        except h11.RemoteProtocolError as error:
            self.fault = error
            raise
        if event is not h11.NEED_DATA:
            self.left -= 1
        return event

    def _check(self, event: Any) -> None:
        if isinstance(event, h11.Request):
            self._chunks = 0
            _check_head(event)
        elif isinstance(event, h11.Data) and event.chunk_end:
            self._chunks += 1
            if self._chunks > MOST_CHUNKS:
                raise Refused(
                    TooLarge("body-too-large", f"The body came in over {MOST_CHUNKS} chunks; use larger ones.")
                )


class Flow(FlowControl):
    """Reading is paused where uvicorn says so, or while what was read is not parsed yet."""

    def __init__(self, transport: asyncio.Transport):
        super().__init__(transport)
        self.unparsed = False

    def hold(self, *, unparsed: bool) -> None:
        """Read on only once what there is has been parsed."""
        self.unparsed = unparsed
        self._apply()

    def pause_reading(self) -> None:
        """See uvicorn."""
        self.read_paused = True
        self._apply()

    def resume_reading(self) -> None:
        """See uvicorn."""
        self.read_paused = False
        self._apply()

    def _apply(self) -> None:
        if self._transport.is_closing():
            return
        if self.read_paused or self.unparsed:
            self._transport.pause_reading()
        else:
            self._transport.resume_reading()


class HttpConnection(H11Protocol):
    """One connection. It is closed where a request's head, or a body that is not waited for, takes too long."""

    conn: BoundedHttp
    flow: Flow

    def __init__(self, *args: Any, book: Connections, **kwargs: Any):
        super().__init__(*args, **kwargs)
        self.conn = BoundedHttp()
        self.address = ""
        self._book = book
        self.since_s = book.clock()
        self._answered = False  # at least one request of it
        self._deadline: asyncio.TimerHandle | None = None
        self._awaited: object = None  # what the deadline is for: h11's states of both sides
        self._states: object = None  # what they were last
        self._resumes = False  # parsing goes on in the loop's next turn
        self._waits = False  # for its end, unread

    @property
    def stage(self) -> Stage:
        """How far it is."""
        if self.conn.their_state is h11.SEND_BODY:
            return Stage.SENDING
        if self.cycle is not None and not self.cycle.response_complete:
            return Stage.ANSWERED_FOR
        return Stage.IDLE if self._answered else Stage.SILENT

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Let it in, or say that there is no room."""
        super().connection_made(transport)
        self.flow = Flow(transport)
        self.address = address_of(self.client[0]) if self.client else ""
        if not self._book.comes(self):
            self._wait_for_its_end()
        elif self._book.enter(self):
            self._set_deadline()
        else:
            detail = f"{self._book.most} connections are open, as many as may be."
            self._answer(Overloaded("overloaded", detail, retry_after_s=FULL_WAIT_S))

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget it."""
        self._book.leave(self)
        self._clear_deadline()
        if self._waits:
            self._book.done_waiting()
        super().connection_lost(exc)

    def cut(self) -> None:
        """Close it now."""
        self.transport.abort()

    def data_received(self, data: bytes) -> None:
        """Count its bytes, and parse it."""
        cost = REFUSED_BYTES_COST if self.conn.our_state is h11.DONE else 1.0
        self._book.events_of(self).owe(cost * len(data) / BYTES_AN_EVENT)
        super().data_received(data)

    def handle_events(self) -> None:
        """Parse for one turn; what is left has the next, so that other connections are served between."""
        events = self._book.events_of(self)
        turn = min(EVENTS_A_TURN, max(0, int(events.left(self._book.clock()))))
        self.conn.begin_turn(turn)
        super().handle_events()
        events.owe(turn - self.conn.left)
        self.flow.hold(unparsed=self.conn.interrupted)
        if self.conn.interrupted and not self._resumes:
            self._resumes = True
            self.loop.call_later(0.0 if turn else REST_S, self._resume)
        self._set_deadline()

    def handle_websocket_upgrade(self, event: h11.Request) -> None:
        """Go on as a WebSocket, which enters the book anew."""
        self._book.leave(self)
        self._clear_deadline()
        super().handle_websocket_upgrade(event)

    def on_response_complete(self) -> None:
        """Wait for the next request; for the rest of this one's body only a while."""
        self._answered = True
        super().on_response_complete()
        self._set_deadline()

    def eof_received(self) -> bool | None:  # type: ignore[override]
        """Answer a client that sends no more but reads on, as `nc -N` does; over TLS there is no such half."""
        waits = self.cycle is not None and not self.cycle.response_complete and not self.cycle.more_body
        if self.scheme == "https" or not waits:
            return None
        self.cycle.keep_alive = False
        if self.scope["http_version"] == "1.1" and self.conn.our_state is h11.SEND_RESPONSE:
            # To a client that is gone this brings back a reset; one that reads skips it.
            probe = h11.InformationalResponse(status_code=100, headers=[], reason="Continue")
            self.transport.write(self.conn.send(probe))
            self.loop.call_later(HALF_CLOSED_EVERY_S, self._check_half_closed)
        return True

    def send_400_response(self, msg: str) -> None:  # noqa: ARG002 (the parser's fault says more)
        """Answer a request that is none with a problem, and close."""
        fault = self.conn.fault
        self._book.cuts["malformed"] += 1
        if isinstance(fault, Refused):
            self._answer(fault.error)
        elif fault is not None and fault.error_status_hint == 431:
            self._answer(_too_much_head(f"over {HEAD_BYTES} bytes"))
        else:
            self._answer(BadRequest("bad-request", "This is no HTTP/1.1 request (RFC 9112); the connection is closed."))

    def _answer(self, error: RequestError) -> None:
        """Write a problem, where no answer has begun, and close."""
        if self.conn.our_state in (h11.IDLE, h11.SEND_RESPONSE) and not self.transport.is_closing():
            self.transport.write(_problem(error))
        self.transport.close()

    def _wait_for_its_end(self) -> None:
        """It is one too many of its address in a short time: it is not read, and closed after a while."""
        if self._book.kept_waiting():
            self._waits = True
            self.transport.pause_reading()
            self._deadline = self.loop.call_later(TARPIT_S, self.cut)
        else:
            self.cut()

    def _resume(self) -> None:
        self._resumes = False
        if not self.transport.is_closing() and self.transport.get_protocol() is self:
            self.handle_events()

    def _set_deadline(self) -> None:
        """Begin to count where something new is awaited of the client; stop where nothing is."""
        states = (self.conn.their_state, self.conn.our_state)
        awaited = {
            (h11.IDLE, h11.IDLE): HEAD_S,
            (h11.SEND_BODY, h11.DONE): LINGER_S,
            (h11.SEND_BODY, h11.MUST_CLOSE): LINGER_S,
        }.get(states)
        between = states == (h11.IDLE, h11.IDLE) and self.timeout_keep_alive_task is not None
        if self._states != states:
            self._states, self.since_s = states, self._book.clock()
        if awaited is None or between or self.transport.is_closing():
            self._clear_deadline()
        elif self._awaited != states:
            self._clear_deadline()
            self._awaited = states
            self._deadline = self.loop.call_later(awaited, self._overdue)

    def _clear_deadline(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
        self._deadline = self._awaited = None

    def _overdue(self) -> None:
        """The client has taken too long."""
        self._book.cuts["too-slow"] += 1
        if self.conn.their_state is h11.IDLE and self.conn.trailing_data[0]:
            detail = f"The request's head took over {HEAD_S:g} s to arrive."
            self._answer(RequestTimeout("head-timeout", detail))
        else:
            self.transport.close()

    def _check_half_closed(self) -> None:
        """A socket whose end has closed altogether has an error by now; nothing is read on it any more."""
        if self.transport.is_closing() or self.cycle.response_complete:
            return
        if self.transport.get_extra_info("socket").getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):
            self.cut()
        else:
            self.loop.call_later(HALF_CLOSED_EVERY_S, self._check_half_closed)


def _check_head(request: h11.Request) -> None:
    """Raise Refused for a head of too many lines or bytes, or one that two servers could read differently."""
    names = [name for name, _ in request.headers]
    if len(names) > HEAD_LINES:
        raise Refused(_too_much_head(f"over {HEAD_LINES} headers"))
    if len(request.target) + sum(len(name) + len(value) for name, value in request.headers) > HEAD_BYTES:
        raise Refused(_too_much_head(f"over {HEAD_BYTES} bytes"))
    if b"transfer-encoding" in names and (b"content-length" in names or request.http_version == b"1.0"):
        detail = "Transfer-Encoding stands beside Content-Length, or in HTTP/1.0: where the body ends would be a guess."
        raise Refused(BadRequest("bad-request", detail))


def _too_much_head(what: str) -> HeadTooLarge:
    return HeadTooLarge("head-too-large", f"The request's head has {what}; send a shorter one.")


def _problem(error: RequestError) -> bytes:
    """A whole response, which closes the connection."""
    body = json.dumps(problem_document(error, request_id=NO_REQUEST_ID, instance="")).encode()
    head = [
        f"HTTP/1.1 {error.status} {HTTPStatus(error.status).phrase}",
        f"Content-Type: {MEDIA_TYPE}",
        f"Content-Length: {len(body)}",
        "Connection: close",
    ]
    if error.retry_after_s is not None:
        head.append(f"Retry-After: {math.ceil(error.retry_after_s)}")
    return "\r\n".join([*head, "", ""]).encode() + body
