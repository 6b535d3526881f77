"""The native stream: several sessions on one WebSocket, each frame answered by an action, a problem or `superseded`.

Knows no engine. docs/stream.md lists the messages; a session outlives its connection by a while.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from types import MappingProxyType

from stillframe.errors import BadRequest, Conflict, RequestError
from stillframe.metrics import FrameEnd
from stillframe.stopwatch import Stopwatch
from stillframe.web.http.decode_pool import DecodePool
from stillframe.web.http.parsing import Fields
from stillframe.web.http.problems import request_id_of
from stillframe.web.http.session_fields import read_count
from stillframe.web.middleware.access import penalize
from stillframe.web.middleware.auth import Caller
from stillframe.web.middleware.rate_limit import RateLimiter
from stillframe.web.middleware.start_options import StartOptions
from stillframe.web.service.frame_parser import FrameParser, ParsedFrame
from stillframe.web.service.inference import InferenceService
from stillframe.web.service.lifecycle import State
from stillframe.web.service.open_session import session_document
from stillframe.web.streaming.connection import Connection, Disconnected, Message
from stillframe.web.streaming.messages import (
    IncomingMessage,
    MessageSender,
    parse,
    position_of,
    read_frame,
    trace_headers,
)
from stillframe.web.streaming.session_queue import QueueSlot, SessionQueue
from stillframe.web.streaming.stream_sessions import StreamSessions, required_id
from stillframe_client.wire import JSON_PROTOCOL, MSGPACK_PROTOCOL, RESTART, WireError

PATH = "/v1/stream"
PROTOCOLS = (MSGPACK_PROTOCOL, JSON_PROTOCOL)
STATUS_EVERY_S, POLL_S = 1.0, 0.05  # until the policy accepts frames
NOT_YET = (State.LOADING, State.WARMING, State.STUCK)


@dataclass(frozen=True)
class StreamContext:
    """What every stream needs."""

    inference: InferenceService
    decode_pool: DecodePool
    frame_limiter: RateLimiter  # of a session's frames
    request_limiter: RateLimiter  # of a caller's messages of any kind
    finish_within_s: float  # for frames under way when the daemon stops
    start_options: StartOptions = field(default_factory=StartOptions)  # of the port


class NativeStream:
    """One connection. Its sessions are attached to it: no other connection can send their frames.

    All its work is in one task group: an unexpected error ends the connection and is raised by `run`.
    """

    def __init__(self, context: StreamContext, connection: Connection, caller: Caller, share: str):
        self._inference, self._decode_pool = context.inference, context.decode_pool
        self._frame_limiter, self._request_limiter = context.frame_limiter, context.request_limiter
        self._finish_within_s = context.finish_within_s
        self._start_options = context.start_options
        self._connection = connection
        self._share = share
        offered = connection.websocket.scope.get("subprotocols", [])
        self._protocol = next((protocol for protocol in offered if protocol in PROTOCOLS), None)
        self._sender = MessageSender(connection, PATH, binary=self._protocol != JSON_PROTOCOL)
        self._sessions = StreamSessions(self._inference, self, caller, share)
        self._tasks = asyncio.TaskGroup()
        self._frames: set[asyncio.Task[None]] = set()  # not answered yet
        self._losses: asyncio.Queue[str] = asyncio.Queue()  # sessions that another connection took over
        self._handlers: Mapping[str, Callable[[IncomingMessage], Awaitable[None]]] = MappingProxyType(
            {
                "frame": self._on_frame,
                "open": self._on_open,
                "reset": self._on_reset,
                "close": self._on_close,
                "ping": self._on_ping,
            }
        )

    async def run(self, draining: asyncio.Event) -> None:
        """Serve until the client disconnects, stops reading, or the daemon drains."""
        try:
            async with self._tasks:
                await self._connection.accept(self._protocol)
                self._tasks.create_task(self._serve_messages())
                self._tasks.create_task(self._report_losses())
                await draining.wait()
                await self._finish()
        except* Disconnected:
            pass
        finally:
            self._sessions.detach_all()

    def lost(self, session_id: str) -> None:
        """Another connection has resumed this session with its secret."""
        self._sessions.drop(session_id)
        self._losses.put_nowait(session_id)

    async def _report_losses(self) -> None:
        while True:
            session_id = await self._losses.get()
            error = Conflict("session-in-use", "Another connection has resumed this session; it goes on there.")
            await self._sender.refuse(error, position_of({"session_id": session_id}))

    async def _serve_messages(self) -> None:
        """Send hello, then handle one message after the other."""
        await self._send_hello()
        while True:
            await self._handle(await self._connection.read())

    async def _send_hello(self) -> None:
        """Send hello once the policy is ready; the daemon's state every STATUS_EVERY_S until then."""
        lifecycle = self._inference.lifecycle
        while (state := lifecycle.state) in NOT_YET:
            await self._sender.send({"type": "status", "state": state.value})
            await self._poll_state(state)
        if state is State.READY:
            await self._sender.hello(
                self._start_options.apply(lifecycle.loaded_policy().info), self._inference.limits, state.value
            )

    async def _poll_state(self, state: State) -> None:
        """Poll until the daemon's state changes or STATUS_EVERY_S has passed."""
        for _ in range(round(STATUS_EVERY_S / POLL_S)):
            if self._inference.lifecycle.state is state:
                await asyncio.sleep(POLL_S)

    async def _handle(self, data: Message) -> None:
        """Handle one message; an invalid one is answered with a problem and the connection stays open.

        Parsing runs on another thread, so other connections are served between messages that came together.
        """
        self._sender.binary = isinstance(data, bytes)
        watch = Stopwatch()
        fields: Fields = {}
        try:
            self._request_limiter.acquire((self._share,))
            fields = await self._decode_pool.run_waiting(
                self._share, parse, data, self._inference.limits.max_json_parts
            )
            await self._handler(fields)(IncomingMessage(fields, data, watch))
        except RequestError as error:
            await self._sender.refuse(error, position_of(fields))
            await penalize(error, self._request_limiter, self._share)

    def _handler(self, fields: Fields) -> Callable[[IncomingMessage], Awaitable[None]]:
        kind = fields.get("type")
        handler = self._handlers.get(kind) if isinstance(kind, str) else None
        if handler is None:
            raise BadRequest("bad-field", f"'type' has to be one of {', '.join(self._handlers)}.", pointer="/type")
        return handler

    async def _on_open(self, message: IncomingMessage) -> None:
        self._inference.lifecycle.ready_policy()
        session, resumed = self._sessions.open(message.fields)
        await self._sender.send({"type": "session", **session_document(session, resumed=resumed)})

    async def _on_reset(self, message: IncomingMessage) -> None:
        session = self._sessions.find(message.fields)
        await self._sessions.flush(session)  # frames sent before belong to the episode that ends
        epoch = self._inference.registry.reset(session, epoch=read_count(message.fields, "epoch"))
        await self._sender.send({"type": "reset", "session_id": session.id, "epoch": epoch})

    async def _on_close(self, message: IncomingMessage) -> None:
        session = self._sessions.find(message.fields)
        self._inference.registry.close(session)
        await self._sender.send({"type": "closed", "session_id": session.id})

    async def _on_ping(self, message: IncomingMessage) -> None:
        most = self._inference.limits.max_ping_bytes
        if len(message.data) > most:
            raise BadRequest("bad-field", f"A ping is repeated to its sender; at most {most} bytes of it are.")
        try:
            await self._sender.send({**message.fields, "type": "pong"})
        except WireError as error:
            raise BadRequest("bad-field", f"This ping cannot be repeated. {error}") from error

    async def _on_frame(self, message: IncomingMessage) -> None:
        """Queue a frame in order; a task of its own answers it."""
        try:
            queue, slot = self._reserve_slot(message.fields)
        except RequestError as error:
            self._count(error, message)
            raise
        frame = self._tasks.create_task(self._serve(queue, slot, message))
        self._frames.add(frame)
        frame.add_done_callback(self._frames.discard)

    def _reserve_slot(self, fields: Fields) -> tuple[SessionQueue, QueueSlot]:
        """Reserve a slot in the queue of the session that a frame names. Raises RequestError."""
        self._inference.lifecycle.ready_policy()
        session_id, seq = required_id(fields), read_count(fields, "seq")
        self._frame_limiter.acquire((self._share, session_id))
        queue = self._sessions.queue_for(session_id)
        return queue, queue.join(seq)

    async def _serve(self, queue: SessionQueue, slot: QueueSlot, message: IncomingMessage) -> None:
        """Answer one frame: exactly one message is sent."""
        try:
            with self._frame(message) as end:
                frame = await self._decoded(queue, slot, message)
                answer = await self._inference.infer(
                    frame, queue.session, message.watch, end, self._share, connection=self
                )
                document = {"type": "action", **frame.dialect.write(answer)}
            await self._sender.send(document, binary=message.binary)
        except RequestError as error:
            await self._sender.refuse(error, position_of(message.fields), binary=message.binary)

    async def _decoded(self, queue: SessionQueue, slot: QueueSlot, message: IncomingMessage) -> ParsedFrame:
        """Decode the frame in its turn. `infer` submits it before it awaits, so the order is kept."""
        async with queue.turn(slot):
            parser = FrameParser(
                self._start_options.apply(self._inference.lifecycle.loaded_policy().info), self._inference.limits
            )
            frame = await self._decode_pool.run_waiting(self._share, read_frame, parser, message)
            message.watch.lap("unpack")
            return frame

    def _frame(self, message: IncomingMessage) -> AbstractContextManager[FrameEnd]:
        """Count, time and trace a frame, as the message says, or else the connection."""
        websocket = self._connection.websocket
        headers = trace_headers(message.fields) or websocket.headers
        return self._inference.frame(PATH, headers, request_id_of(websocket), message.watch.total_ms)

    def _count(self, error: RequestError, message: IncomingMessage) -> None:
        """Count a frame that was refused before its queue."""
        try:
            with self._frame(message):
                raise error
        except RequestError:
            pass

    async def _finish(self) -> None:
        """Drain: send goaway, await the frames under way while new ones are refused, close."""
        await self._sender.send({"type": "goaway", "finish_within_s": self._finish_within_s})
        if self._frames:
            await asyncio.wait(self._frames, timeout=self._finish_within_s)
        await self._connection.close(RESTART)
        raise Disconnected
