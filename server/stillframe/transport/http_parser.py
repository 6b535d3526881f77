"""h11's HTTP/1.1 parser with bounds: events per turn, header lines and bytes, chunks per body.

Knows no socket and no deadline.
"""

from __future__ import annotations

from typing import Any

import h11

from stillframe.errors import BadRequest, HeadTooLarge, RequestError, TooLarge
from stillframe.transport.bounds import EVENTS_PER_TURN, HEAD_BYTES, HEAD_LINES, MAX_CHUNKS


class RefusedRequest(h11.RemoteProtocolError):
    """A request with a malformed or oversized head or body; `error` is the answer."""

    def __init__(self, error: RequestError):
        super().__init__(error.detail, error.status)
        self.error = error


class BoundedH11(h11.Connection):
    """h11's parser with a budget of events per turn. Raises RefusedRequest for a head or body in too many parts."""

    def __init__(self) -> None:
        super().__init__(h11.SERVER, HEAD_BYTES)
        self.fault: h11.RemoteProtocolError | None = None  # what was wrong with the request
        self.interrupted = False  # the turn ended before what was received was parsed
        self.events_left = EVENTS_PER_TURN  # events of this turn
        self._chunks = 0  # of this request

    def begin_turn(self, events: int = EVENTS_PER_TURN) -> None:
        """Begin a turn with a budget of `events`."""
        self.events_left, self.interrupted = events, False

    def next_event(self) -> Any:
        """See h11; NEED_DATA once the turn's budget is spent, even if bytes are left."""
        if self.events_left < 1:
            self.interrupted = True
            return h11.NEED_DATA
        try:
            event = super().next_event()
            self._check(event)
        except h11.RemoteProtocolError as error:
            self.fault = error
            raise
        if event is not h11.NEED_DATA:
            self.events_left -= 1
        return event

    def _check(self, event: Any) -> None:
        if isinstance(event, h11.Request):
            self._chunks = 0
            _check_head(event)
        elif isinstance(event, h11.Data) and event.chunk_end:
            self._chunks += 1
            if self._chunks > MAX_CHUNKS:
                raise RefusedRequest(
                    TooLarge("body-too-large", f"The body came in over {MAX_CHUNKS} chunks; use larger ones.")
                )


def _check_head(request: h11.Request) -> None:
    """Raise RefusedRequest for too many header lines or bytes, or framing that invites request smuggling."""
    names = [name for name, _ in request.headers]
    if len(names) > HEAD_LINES:
        raise RefusedRequest(head_too_large(f"over {HEAD_LINES} headers"))
    if len(request.target) + sum(len(name) + len(value) for name, value in request.headers) > HEAD_BYTES:
        raise RefusedRequest(head_too_large(f"over {HEAD_BYTES} bytes"))
    if b"transfer-encoding" in names and (b"content-length" in names or request.http_version == b"1.0"):
        detail = "Transfer-Encoding stands beside Content-Length, or in HTTP/1.0: where the body ends would be a guess."
        raise RefusedRequest(BadRequest("bad-request", detail))


def head_too_large(what: str) -> HeadTooLarge:
    """What a client is told whose request head is over a bound."""
    return HeadTooLarge("head-too-large", f"The request's head has {what}; send a shorter one.")
