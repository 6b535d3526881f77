"""The native stream: several sessions on one WebSocket, each frame answered by an action, a problem or `superseded`.

Knows no engine. docs/stream.md has the messages; a client's session outlives its connection by a while.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

from stillframe.errors import BadRequest, Conflict, RequestError
from stillframe.sessions.session import Session
from stillframe.stopwatch import Stopwatch
from stillframe.web.http.decode_pool import Unpacking
from stillframe.web.http.objects import Fields
from stillframe.web.http.session_fields import read_count, read_session_id
from stillframe.web.middleware.access import pace
from stillframe.web.middleware.auth import Caller
from stillframe.web.middleware.rate_limit import Rates
from stillframe.web.middleware.terms import Terms
from stillframe.web.service.frame_parser import Frame, Reader
from stillframe.web.service.inference import Acting
from stillframe.web.service.lifecycle import State
from stillframe.web.service.opening import open_session, opened
from stillframe.web.streaming.connection import Connection, Cut, Message
from stillframe.web.streaming.messages import Arrival, Outbox, parse, place_of, read_frame
from stillframe.web.streaming.session_queue import Lane, Turn
from stillframe_client.wire import JSON_PROTOCOL, MSGPACK_PROTOCOL, RESTART, WireError

PATH = "/v1/stream"
PROTOCOLS = (MSGPACK_PROTOCOL, JSON_PROTOCOL)
STATUS_EVERY_S, POLL_S = 1.0, 0.05  # while the policy takes no frames yet
MOST_OPENED = 1024  # whose end a connection remembers
NOT_YET = (State.LOADING, State.WARMING, State.STUCK)


@dataclass(frozen=True)
class Streaming:
    """What every stream needs."""

    acting: Acting
    unpacking: Unpacking
    rates: Rates  # of a session's frames
    requests: Rates  # of a caller's messages of any kind
    finish_within_s: float  # what is under way when the daemon stops gets this long
    terms: Terms = field(default_factory=Terms)  # what is fixed for those of one port


class Stream:
    """One connection. Its sessions are attached to it, so that no other connection speaks for them.

    All that it does is tasks of one group: whatever fails there ends the connection and is raised by `run`.
    """

    def __init__(self, streaming: Streaming, connection: Connection, caller: Caller, share: str):
        self._acting, self._unpacking = streaming.acting, streaming.unpacking
        self._rates, self._requests = streaming.rates, streaming.requests
        self._finish_within_s = streaming.finish_within_s
        self._terms = streaming.terms
        self._connection = connection
        self._caller = caller
        self._share = share
        offered = connection.websocket.scope.get("subprotocols", [])
        self._protocol = next((protocol for protocol in offered if protocol in PROTOCOLS), None)
        self._outbox = Outbox(connection, PATH, binary=self._protocol != JSON_PROTOCOL)
        self._lanes: dict[str, Lane] = {}
        self._opened: dict[str, None] = {}  # sessions that were opened here on purpose, the last ones
        self._tasks = asyncio.TaskGroup()
        self._frames: set[asyncio.Task[None]] = set()  # that are not answered yet
        self._losses: asyncio.Queue[str] = asyncio.Queue()  # sessions that another connection took over
        self._handlers: Mapping[str, Callable[[Arrival], Awaitable[None]]] = MappingProxyType(
            {
                "frame": self._on_frame,
                "open": self._on_open,
                "reset": self._on_reset,
                "close": self._on_close,
                "ping": self._on_ping,
            }
        )

    async def run(self, leaving: asyncio.Event) -> None:
        """Talk until the client goes, does not read any more, or the daemon stops."""
        try:
            async with self._tasks:
                await self._connection.accept(self._protocol)
                self._tasks.create_task(self._converse())
                self._tasks.create_task(self._tell_losses())
                await leaving.wait()
                await self._finish()
        except* Cut:
            pass
        finally:
            for lane in self._lanes.values():
                self._acting.roster.leave(lane.session, self)

    def lost(self, session_id: str) -> None:
        """Another connection has taken a session over: with its secret, so by its robot."""
        self._lanes.pop(session_id, None)
        self._opened.pop(session_id, None)
        self._losses.put_nowait(session_id)

    async def _tell_losses(self) -> None:
        while True:
            session_id = await self._losses.get()
            error = Conflict("session-in-use", "Another connection has resumed this session; it goes on there.")
            await self._outbox.refuse(error, place_of({"session_id": session_id}))

    async def _converse(self) -> None:
        """Hello, then one message after the other."""
        await self._greet()
        while True:
            await self._handle(await self._connection.read())

    async def _greet(self) -> None:
        """Say hello as soon as frames are taken; that they are not, now and then until then."""
        lifecycle = self._acting.lifecycle
        while (state := lifecycle.state) in NOT_YET:
            await self._outbox.send({"type": "status", "state": state.value})
            await self._wait_for_another(state)
        if state is State.READY:
            await self._outbox.hello(self._terms.over(lifecycle.loaded_policy().info), self._acting.limits, state.value)

    async def _wait_for_another(self, state: State) -> None:
        """Until the daemon's state is another, or it is time to say it again. Nobody tells us: so look."""
        for _ in range(round(STATUS_EVERY_S / POLL_S)):
            if self._acting.lifecycle.state is state:
                await asyncio.sleep(POLL_S)

    async def _handle(self, data: Message) -> None:
        """One message. What is wrong with it is answered, and the conversation goes on.

        Each is parsed on another thread: so others have their turn between messages that came in one go.
        """
        self._outbox.binary = isinstance(data, bytes)
        watch = Stopwatch()
        fields: Fields = {}
        try:
            self._requests.allow((self._share,))
            fields = await self._unpacking.in_turn(self._share, parse, data, self._acting.limits.max_json_parts)
            await self._handler(fields)(Arrival(fields, data, watch))
        except RequestError as error:
            await self._outbox.refuse(error, place_of(fields))
            await pace(error, self._requests, self._share)

    def _handler(self, fields: Fields) -> Callable[[Arrival], Awaitable[None]]:
        kind = fields.get("type")
        handler = self._handlers.get(kind) if isinstance(kind, str) else None
        if handler is None:
            raise BadRequest("bad-field", f"'type' has to be one of {', '.join(self._handlers)}.", pointer="/type")
        return handler

    async def _on_open(self, arrival: Arrival) -> None:
        self._acting.lifecycle.ready_policy()
        session, resumed = open_session(self._acting.roster, arrival.fields, self._caller, self._share, connection=self)
        self._lane(session)
        self._remember(session.id)
        await self._outbox.send({"type": "session", **opened(session, resumed=resumed)})

    async def _on_reset(self, arrival: Arrival) -> None:
        session = self._found(arrival.fields)
        if (lane := self._lanes.get(session.id)) is not None:
            await lane.settled()  # what was sent before belongs to the episode that ends
        epoch = self._acting.roster.reset(session, epoch=read_count(arrival.fields, "epoch"))
        await self._outbox.send({"type": "reset", "session_id": session.id, "epoch": epoch})

    async def _on_close(self, arrival: Arrival) -> None:
        session = self._found(arrival.fields)
        self._acting.roster.close(session)
        await self._outbox.send({"type": "closed", "session_id": session.id})

    async def _on_ping(self, arrival: Arrival) -> None:
        most = self._acting.limits.max_ping_bytes
        if len(arrival.data) > most:
            raise BadRequest("bad-field", f"A ping is repeated to its sender; at most {most} bytes of it are.")
        try:
            await self._outbox.send({**arrival.fields, "type": "pong"})
        except WireError as error:
            raise BadRequest("bad-field", f"This ping cannot be repeated. {error}") from error

    async def _on_frame(self, arrival: Arrival) -> None:
        """Let it in, in its order; from there it goes its own way."""
        try:
            lane, turn = self._admitted(arrival.fields)
        except RequestError as error:
            self._count(error)
            raise
        frame = self._tasks.create_task(self._serve(lane, turn, arrival))
        self._frames.add(frame)
        frame.add_done_callback(self._frames.discard)

    def _admitted(self, fields: Fields) -> tuple[Lane, Turn]:
        """A place in the lane of the session that a frame names. Raises RequestError."""
        self._acting.lifecycle.ready_policy()
        session_id, seq = _named(fields), read_count(fields, "seq")
        self._rates.allow((self._share, session_id))
        lane = self._lanes.get(session_id)
        if lane is None or not lane.session.live:
            if session_id in self._opened:
                self._found(fields)  # raises Gone: who opened it knows a secret that would not be the next one's
            session = self._acting.roster.find_or_create(session_id, owner=self._caller.name, share=self._share)
            lane = self._lane(session)
        return lane, lane.join(seq)

    def _remember(self, session_id: str) -> None:
        self._opened[session_id] = None
        while len(self._opened) > MOST_OPENED:
            del self._opened[next(iter(self._opened))]

    def _found(self, fields: Fields) -> Session:
        return self._acting.roster.find(_named(fields), owner=self._caller.name)

    def _lane(self, session: Session) -> Lane:
        """Attach the session to this connection, and give its frames a lane. Raises Conflict while another has it."""
        self._acting.roster.attach(session, self)
        lane = self._lanes.get(session.id)
        if lane is None or lane.session is not session:
            self._lanes = {other.session.id: other for other in self._lanes.values() if other.session.live}
            lane = Lane(session, 1 + self._acting.roster.settings.waiting, self._acting.metrics.sessions)
            self._lanes[session.id] = lane
        return lane

    async def _serve(self, lane: Lane, turn: Turn, arrival: Arrival) -> None:
        """Answer one frame: this sends one message, whatever happens."""
        try:
            with self._acting.metrics.frame(PATH) as end:
                frame = await self._unpacked(lane, turn, arrival)
                answer = await self._acting.answer(
                    frame, lane.session, arrival.watch, end, self._share, connection=self
                )
                document = {"type": "action", **frame.dialect.write(answer)}
            await self._outbox.send(document, binary=arrival.binary)
        except RequestError as error:
            await self._outbox.refuse(error, place_of(arrival.fields), binary=arrival.binary)

    async def _unpacked(self, lane: Lane, turn: Turn, arrival: Arrival) -> Frame:
        """The frame, in its turn. `answer` takes it to the roster before it waits: nobody overtakes it there."""
        async with lane.reached(turn):
            reader = Reader(self._terms.over(self._acting.lifecycle.loaded_policy().info), self._acting.limits)
            frame = await self._unpacking.in_turn(self._share, read_frame, reader, arrival)
            arrival.watch.lap("unpack")
            return frame

    def _count(self, error: RequestError) -> None:
        """Let the metrics know of a frame that was not let in."""
        try:
            with self._acting.metrics.frame(PATH):
                raise error
        except RequestError:
            pass

    async def _finish(self) -> None:
        """The daemon stops: say so, answer what is under way while what still comes is refused, say goodbye."""
        await self._outbox.send({"type": "goaway", "finish_within_s": self._finish_within_s})
        if self._frames:
            await asyncio.wait(self._frames, timeout=self._finish_within_s)
        await self._connection.close(RESTART)
        raise Cut


def _named(fields: Mapping[str, Any]) -> str:
    session_id = read_session_id(fields)
    if session_id is None:
        detail = "'session_id' is missing: a stream's frames belong to sessions; stateless ones go to POST /v1/act."
        raise BadRequest("missing-field", detail, pointer="/session_id")
    return session_id
