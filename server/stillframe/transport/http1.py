"""uvicorn's HTTP/1.1 protocol with deadlines for heads and bodies, throttled parsing, and a limit of connections.

Knows no route and no policy. A request refused before the app sees it is answered with a problem.
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

from stillframe.errors import BadRequest, Overloaded, RequestError, RequestTimeout
from stillframe.transport.bounds import (
    BYTES_PER_EVENT,
    EVENTS_PER_TURN,
    HEAD_BYTES,
    HEAD_S,
    LINGER_S,
    REFUSED_BYTES_COST,
    TARPIT_S,
    THROTTLE_DELAY_S,
)
from stillframe.transport.connections import ConnectionTable, Stage
from stillframe.transport.http_parser import BoundedH11, RefusedRequest, head_too_large
from stillframe.web.http.limits import FULL_WAIT_S
from stillframe.web.http.problems import MEDIA_TYPE, NO_REQUEST_ID, problem_document
from stillframe.web.middleware.addresses import client_network

HALF_CLOSED_EVERY_S = 0.05  # between checks that a half-closed client is still there


class ReadFlow(FlowControl):
    """Pauses reading where uvicorn does, and while bytes are unparsed."""

    def __init__(self, transport: asyncio.Transport):
        super().__init__(transport)
        self.unparsed = False

    def set_unparsed(self, *, unparsed: bool) -> None:
        """Set whether bytes are unparsed: reading resumes when none are."""
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
    """One connection. Closed where a request's head, or the rest of a refused body, takes too long."""

    conn: BoundedH11
    flow: ReadFlow

    def __init__(self, *args: Any, table: ConnectionTable, **kwargs: Any):
        super().__init__(*args, **kwargs)
        self.conn = BoundedH11()
        self.address = ""
        self._table = table
        self.since_s = table.clock()
        self._answered = False  # at least one request
        self._deadline: asyncio.TimerHandle | None = None
        self._awaited: object = None  # what the deadline is for: h11's states
        self._states: object = None  # what they were last
        self._resume_scheduled = False  # parsing continues in a later turn of the loop
        self._in_tarpit = False  # unread until it is closed

    @property
    def stage(self) -> Stage:
        """Return its stage."""
        if self.conn.their_state is h11.SEND_BODY:
            return Stage.SENDING
        if self.cycle is not None and not self.cycle.response_complete:
            return Stage.BUSY
        return Stage.IDLE if self._answered else Stage.NEW

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Add it to the table, tarpit it, or answer 503."""
        super().connection_made(transport)
        self.flow = ReadFlow(transport)
        self.address = client_network(self.client[0]) if self.client else ""
        if not self._table.within_rate(self):
            self._tarpit()
        elif self._table.add(self):
            self._set_deadline()
        else:
            detail = f"{self._table.capacity} connections are open, as many as may be."
            self._answer(Overloaded("overloaded", detail, retry_after_s=FULL_WAIT_S))

    def connection_lost(self, exc: Exception | None) -> None:
        """Remove it from the table."""
        self._table.remove(self)
        self._clear_deadline()
        if self._in_tarpit:
            self._table.leave_tarpit()
        super().connection_lost(exc)

    def abort(self) -> None:
        """Close it now."""
        self.transport.abort()

    def data_received(self, data: bytes) -> None:
        """Charge its bytes, and parse it."""
        cost = REFUSED_BYTES_COST if self.conn.our_state is h11.DONE else 1.0
        self._table.event_bucket(self).charge(cost * len(data) / BYTES_PER_EVENT)
        super().data_received(data)

    def handle_events(self) -> None:
        """Parse for one turn; the rest is parsed in later turns, so that other connections are served between."""
        events = self._table.event_bucket(self)
        turn = min(EVENTS_PER_TURN, max(0, int(events.available(self._table.clock()))))
        self.conn.begin_turn(turn)
        super().handle_events()
        events.charge(turn - self.conn.events_left)
        self.flow.set_unparsed(unparsed=self.conn.interrupted)
        if self.conn.interrupted and not self._resume_scheduled:
            self._resume_scheduled = True
            self.loop.call_later(0.0 if turn else THROTTLE_DELAY_S, self._resume)
        self._set_deadline()

    def handle_websocket_upgrade(self, event: h11.Request) -> None:
        """Continue as a WebSocket, which is a new entry of the table."""
        self._table.remove(self)
        self._clear_deadline()
        super().handle_websocket_upgrade(event)

    def on_response_complete(self) -> None:
        """Set the deadline for the next request, or for the rest of this one's body."""
        self._answered = True
        super().on_response_complete()
        self._set_deadline()

    def eof_received(self) -> bool | None:  # type: ignore[override]
        """Keep a half-closed connection until it is answered, as `nc -N` needs; TLS has no half-close."""
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
        """Answer a malformed request with a problem, and close."""
        fault = self.conn.fault
        self._table.closed_by_bound["malformed"] += 1
        if isinstance(fault, RefusedRequest):
            self._answer(fault.error)
        elif fault is not None and fault.error_status_hint == 431:
            self._answer(head_too_large(f"over {HEAD_BYTES} bytes"))
        else:
            self._answer(BadRequest("bad-request", "This is no HTTP/1.1 request (RFC 9112); the connection is closed."))

    def _answer(self, error: RequestError) -> None:
        """Write a problem, unless a response has begun, and close."""
        if self.conn.our_state in (h11.IDLE, h11.SEND_RESPONSE) and not self.transport.is_closing():
            self.transport.write(_problem(error))
        self.transport.close()

    def _tarpit(self) -> None:
        """Leave the connection unread and close it after TARPIT_S: its address is over the connection rate."""
        if self._table.enter_tarpit():
            self._in_tarpit = True
            self.transport.pause_reading()
            self._deadline = self.loop.call_later(TARPIT_S, self.abort)
        else:
            self.abort()

    def _resume(self) -> None:
        self._resume_scheduled = False
        if not self.transport.is_closing() and self.transport.get_protocol() is self:
            self.handle_events()

    def _set_deadline(self) -> None:
        """Start a deadline where the client has to send something; clear it where not."""
        states = (self.conn.their_state, self.conn.our_state)
        awaited = {
            (h11.IDLE, h11.IDLE): HEAD_S,
            (h11.SEND_BODY, h11.DONE): LINGER_S,
            (h11.SEND_BODY, h11.MUST_CLOSE): LINGER_S,
        }.get(states)
        between = states == (h11.IDLE, h11.IDLE) and self.timeout_keep_alive_task is not None
        if self._states != states:
            self._states, self.since_s = states, self._table.clock()
        if awaited is None or between or self.transport.is_closing():
            self._clear_deadline()
        elif self._awaited != states:
            self._clear_deadline()
            self._awaited = states
            self._deadline = self.loop.call_later(awaited, self._on_deadline)

    def _clear_deadline(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
        self._deadline = self._awaited = None

    def _on_deadline(self) -> None:
        """The deadline has passed: close, with a problem if part of a head came."""
        self._table.closed_by_bound["too-slow"] += 1
        if self.conn.their_state is h11.IDLE and self.conn.trailing_data[0]:
            detail = f"The request's head took over {HEAD_S:g} s to arrive."
            self._answer(RequestTimeout("head-timeout", detail))
        else:
            self.transport.close()

    def _check_half_closed(self) -> None:
        """Abort if the peer has closed entirely: the probe left an error on the socket."""
        if self.transport.is_closing() or self.cycle.response_complete:
            return
        if self.transport.get_extra_info("socket").getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):
            self.abort()
        else:
            self.loop.call_later(HALF_CLOSED_EVERY_S, self._check_half_closed)


def _problem(error: RequestError) -> bytes:
    """Return a complete response that closes the connection."""
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
