"""The client's half of a stream, sans-IO: which message goes out next, and what an incoming one means.

Knows no socket and waits for nothing: bytes go in, bytes come out, and requests are settled on the way. A frame keeps
its position (epoch, seq) for as long as its session lives, so that one which is sent again is computed once.
"""

from __future__ import annotations

import time
from dataclasses import replace
from typing import Any, Callable, Iterator, List, Mapping, Optional, Union

from stillframe_client.errors import BadReply, PolicyError, Problem, Refused, StaleAnswer, WireError, refusal
from stillframe_client.replies import ActionReply, ModelInfo
from stillframe_client.reply_checks import check_reply
from stillframe_client.streaming.handshake import GONE, TAKEN, Handshake, Reconnect
from stillframe_client.streaming.incoming import (
    Close,
    Message,
    action_of,
    epoch_of,
    position_of,
    refusal_of,
    session_of,
)
from stillframe_client.streaming.requests import BARRIERS, PendingRequests, RequestKind, StreamRequest
from stillframe_client.streaming.session_state import SessionState
from stillframe_client.wire import MSGPACK, pack


class StreamProtocol:
    """One robot's session, over one connection after the other. For one thread."""

    def __init__(
        self,
        session: Optional[str] = None,
        *,
        service: str = "lockstep",
        reuse: Optional[str] = None,
        clock: Callable[[], float] = time.monotonic,
    ):
        """`session` is the client's name for it; None: a generated one."""
        self.answer_count = 0  # late answers included
        self._clock = clock
        self._draining = False  # the daemon has sent goaway
        self._session = SessionState(session, service, reuse)
        self._handshake = Handshake(self._session)
        self._taken_over: Optional[Refused] = None  # another connection holds this session now
        self._pending = PendingRequests()
        self._handlers: Mapping[str, Callable[[Message], None]] = {
            "hello": self._handshake.on_hello,
            "status": self._handshake.on_status,
            "session": self._on_session,
            "action": self._on_action,
            "superseded": self._on_superseded,
            "problem": self._on_problem,
            "reset": self._on_reset,
            "closed": self._on_closed,
            "goaway": self._on_goaway,
        }

    @property
    def session_id(self) -> str:
        """The session's id. A generated one changes where the first cannot be had."""
        return self._session.session_id

    @property
    def info(self) -> Optional[ModelInfo]:
        """What is served; None before the daemon's first hello."""
        return self._handshake.info

    # Requests.

    def submit(self, kind: RequestKind, fields: Optional[Mapping[str, Any]] = None) -> StreamRequest:
        """Add a request; it has failed already where the session was taken over."""
        max_age_ms = (fields or {}).get("max_age_ms")
        request = StreamRequest(kind, self._clock(), fields or {}, None if max_age_ms is None else max_age_ms / 1000)
        if self._taken_over is not None:
            request.fail(self._taken_over)
        else:
            self._pending.add(request)
        return request

    def cancel(self, request: StreamRequest) -> None:
        """Its caller has stopped waiting; a late answer is dropped."""
        self._pending.cancel(request)

    def fail(self, error: PolicyError) -> None:
        """Fail every request; the connection has to be closed."""
        self._pending.fail_all(error)

    @property
    def has_waiters(self) -> bool:
        """Whether a caller waits for a request."""
        return self._pending.has_waiters

    @property
    def is_open(self) -> bool:
        """Whether the session is open on the current connection."""
        return self._handshake.is_open

    @property
    def status_text(self) -> str:
        """How far the connection is, for a timeout's message."""
        return self._handshake.status_text

    # The connection.

    def connection_made(self) -> None:
        """There is a new connection; the daemon speaks first."""
        self._handshake.connection_made()

    def connection_lost(self, close: Optional[Close] = None) -> None:
        """The connection is gone: requests are sent again on the next one, unless `close` is an error for them."""
        self._draining = False
        self._handshake.connection_lost()
        self._pending.mark_unsent()
        error = None if close is None else close.error()
        if error is not None:
            self.fail(error)

    @property
    def may_close(self) -> bool:
        """Whether the daemon has sent goaway and owes no answer."""
        return self._draining and not self._pending.sent

    def ping(self) -> None:
        """Queue a ping, once the daemon has said hello."""
        self._handshake.ping()

    def data_to_send(self) -> List[bytes]:
        """The messages to send now, in order. They count as sent."""
        out = self._handshake.data_to_send()
        if self._handshake.is_open and not self._draining:
            out.extend(self._requests_to_send())
        return out

    def receive_data(self, data: Union[bytes, str]) -> None:
        """Take one message in.

        Raises Reconnect where only another connection helps, and a PolicyError for what no daemon sends: then the
        connection cannot be trusted, and every request has to `fail`.
        """
        message = _load(data)
        kind = message.get("type")
        self._handshake.check_kind(kind)
        handler = self._handlers.get(kind) if isinstance(kind, str) else None
        if handler is not None:  # else a pong, or a message of a later protocol
            handler(message)

    # Outgoing.

    def _requests_to_send(self) -> Iterator[bytes]:
        for request in self._pending:
            if not request.sent:
                yield from self._message_for(request)
            if request.sent and request.kind in BARRIERS:
                return

    def _message_for(self, request: StreamRequest) -> Iterator[bytes]:
        """The request's message, or none where it can be settled here."""
        if request.kind is RequestKind.OPEN:
            self._pending.settle(request, None)
        elif request.kind is RequestKind.RESET and self._session.is_fresh:
            self._pending.settle(request, self._session.epoch)  # there is no episode to end
        elif request.is_expired(self._clock()):
            self._pending.fail(request, refusal(Problem(504, "deadline-exceeded", request.expiry_text(self._clock()))))
        else:
            yield from self._encoded(request)

    def _encoded(self, request: StreamRequest) -> Iterator[bytes]:
        try:
            request.data = request.data or pack(self._message(request))
        except WireError as error:
            self._pending.fail(request, error)
        else:
            request.sent = True
            yield request.data

    def _message(self, request: StreamRequest) -> Message:
        message = {"type": request.kind.value, "session_id": self.session_id}
        if request.kind is RequestKind.CLOSE:
            return message
        if request.kind is RequestKind.RESET:
            return {**message, "epoch": self._session.epoch + 1}  # named, so that a repeat is done once
        request.position = self._session.next_position()
        return {**message, "epoch": request.position[0], "seq": request.position[1], **request.fields}

    # Incoming.

    def _on_session(self, message: Message) -> None:
        self._pending.session_reopened(*self._handshake.on_session(message))

    def _on_action(self, message: Message) -> None:
        request = self._request_of(message)
        if request is not None:
            reply = self._checked(action_of(message), request)
            late = reply.late or request.is_expired(self._clock())
            self.answer_count += 1
            self._pending.settle(request, replace(reply, late=late))

    def _checked(self, reply: ActionReply, request: StreamRequest) -> ActionReply:
        """Check that a reply answers the request. Raises BadReply and StaleAnswer."""
        self._handshake.action_spec.check(reply.actions)
        model = None if self.info is None else self.info.name
        check_reply(reply, unnorm_key=request.fields.get("unnorm_key"), model=model)
        self._handshake.action_spec = self._handshake.action_spec.learned(reply.actions)
        return reply

    def _on_superseded(self, message: Message) -> None:
        request = self._request_of(message)
        if request is not None:
            detail = f"Frame {message.get('by')!r:.20} of this session is newer: it took this one's place."
            self._pending.fail(request, refusal(Problem(409, "superseded", detail)))

    def _on_reset(self, message: Message) -> None:
        request = self._barrier(RequestKind.RESET, message)
        if epoch_of(message) != self._session.epoch + 1:
            raise StaleAnswer(
                f"The daemon answered a reset to epoch {epoch_of(message)}, which is not the one asked for."
            )
        self._session.begin_epoch(epoch_of(message))
        self.answer_count += 1
        self._pending.settle(request, self._session.epoch)

    def _on_closed(self, message: Message) -> None:
        self._pending.settle(self._barrier(RequestKind.CLOSE, message), None)

    def _on_goaway(self, _: Message) -> None:
        self._draining = True

    def _on_problem(self, message: Message) -> None:
        error = refusal_of(message)
        if not self._handshake.is_open:
            self._handshake.on_problem(error)
        elif position_of(message) is not None:
            request = self._request_of(message)
            if request is not None:
                self._refused(request, error)
        elif error.code in TAKEN:
            self._give_way(error)
        elif self._pending.barrier is not None:
            self._refused(self._pending.barrier, error)
        else:  # of no frame in particular, so of every pending one
            for request in self._pending.sent:
                self._pending.cancel(request)
                request.fail(error)

    # Refusals.

    def _refused(self, request: StreamRequest, error: Refused) -> None:
        """A frame, a reset or a close was not done."""
        if request.kind is RequestKind.CLOSE:
            self._pending.settle(request, None)
        elif (isinstance(error, GONE) or error.code == "stale-epoch") and not request.was_reopened:
            request.was_reopened = True
            if isinstance(error, GONE):
                self._session.drop_session()
            raise Reconnect(error)  # opening it again tells the epoch: another client ended the session or episode
        elif error.code == "draining":
            raise Reconnect(error)
        elif error.code in TAKEN:
            self._give_way(error)
        else:
            self._pending.fail(request, error)

    def _request_of(self, message: Message) -> Optional[StreamRequest]:
        """The frame that a message is about; None if it was cancelled. Raises StaleAnswer for one that was not sent."""
        position = position_of(message)
        if session_of(message) != self.session_id or position is None:
            raise StaleAnswer("The daemon answered a frame of another session than this one.")
        request = self._pending.find(position)
        if request is None and not self._pending.was_cancelled(position):
            raise StaleAnswer(
                f"The daemon answered frame {position[1]} of epoch {position[0]}, which was not asked about."
            )
        return request

    def _barrier(self, kind: RequestKind, message: Message) -> StreamRequest:
        """The reset or close that a message answers. Raises StaleAnswer for one that was not sent."""
        request = self._pending.barrier
        if request is None or request.kind is not kind or session_of(message) != self.session_id:
            raise StaleAnswer(f"The daemon answered a {kind.value} that was not asked for.")
        return request

    def _give_way(self, error: Refused) -> None:
        """Another connection holds the session: stop, or two programs would move one arm."""
        self._taken_over = error
        raise error


def _load(data: Union[bytes, str]) -> Message:
    """Read a message. Raises BadReply."""
    try:
        return MSGPACK.load(data)
    except WireError as error:
        raise BadReply(f"What answers there is not a stillframe daemon's stream: {error}") from error
