"""openpi's WebSocket: the server's metadata first, then one binary map per observation, strictly in order.

Knows no engine. An error is a text frame and the connection stays open (openpi's own server closes it). Each connection
has its own sessions.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from stillframe.errors import BadRequest, RequestError
from stillframe.metrics import FrameEnd
from stillframe.stopwatch import Stopwatch
from stillframe.web.dialects.openpi import OpenPI
from stillframe.web.http.parsing import Fields, parse_msgpack
from stillframe.web.http.problems import request_id_of
from stillframe.web.http.session_fields import RequestAddress
from stillframe.web.middleware.access import penalize
from stillframe.web.middleware.auth import Caller
from stillframe.web.service.frame_parser import FrameParser
from stillframe.web.streaming.connection import Connection, Disconnected, Message
from stillframe.web.streaming.native import NOT_YET, POLL_S, StreamContext
from stillframe.web.streaming.openpi_sessions import ConnectionSessions
from stillframe_client.wire import RESTART, pack

ENDPOINTS = ("infer", "reset")
_LONGEST_PLACE = 128  # characters of a key in an error


class OpenPIStream:
    """One client: a task that reads, so that a disconnect is noticed, and one that answers."""

    def __init__(self, context: StreamContext, connection: Connection, caller: Caller, share: str, dialect: OpenPI):
        self._inference, self._decode_pool = context.inference, context.decode_pool
        self._frame_limiter, self._request_limiter = context.frame_limiter, context.request_limiter
        self._start_options = context.start_options
        self._connection = connection
        self._caller = caller
        self._share = share
        self._dialect = dialect
        self._path = connection.websocket.scope["path"]
        self._sessions = ConnectionSessions(self._inference.registry, caller.name, share)
        self._inbox: asyncio.Queue[Message | None] = asyncio.Queue(1)  # None: the daemon stops
        self._last: Mapping[str, Any] = {}  # timing of the last reply

    async def run(self, draining: asyncio.Event) -> None:
        """Serve until the client disconnects or the daemon drains; messages received before that are answered."""
        try:
            async with asyncio.TaskGroup() as tasks:
                await self._connection.accept()
                tasks.create_task(self._read())
                tasks.create_task(self._serve_messages())
                await draining.wait()
                await self._inbox.put(None)
        except* Disconnected:
            pass
        finally:
            self._sessions.close()

    async def _read(self) -> None:
        while True:
            await self._inbox.put(await self._connection.read())

    async def _serve_messages(self) -> None:
        await self._send_metadata()
        while (data := await self._inbox.get()) is not None:
            await self._connection.send(await self._reply(data))
        await self._connection.close(RESTART)
        raise Disconnected

    async def _send_metadata(self) -> None:
        """Send the metadata once the policy is ready: openpi's clients wait for it without a timeout."""
        lifecycle = self._inference.lifecycle
        while lifecycle.state in NOT_YET:
            await asyncio.sleep(POLL_S)
        if (policy := lifecycle.policy) is not None:
            await self._connection.send(pack(self._dialect.metadata(self._start_options.apply(policy.info))))

    async def _reply(self, data: Message) -> Message:
        """Return the answer to one message: binary, or text for an error."""
        try:
            websocket = self._connection.websocket
            with self._inference.frame(self._path, websocket.headers, request_id_of(websocket)) as end:
                watch = Stopwatch()
                self._request_limiter.acquire((self._share,))
                fields = await self._fields(data)
                if fields.get("endpoint") == "reset":
                    return self._reset(fields)
                return await self._infer(fields, watch, end)
        except RequestError as error:
            await penalize(error, self._request_limiter, self._share)
            return f"{error.code}: {error.detail}" + (
                f" (at {error.pointer[:_LONGEST_PLACE]})" if error.pointer else ""
            )

    async def _fields(self, data: Message) -> Fields:
        if isinstance(data, str):
            raise BadRequest("bad-codec", "This wire takes msgpack in binary frames; a text frame came.")
        fields = await self._decode_pool.run_waiting(
            self._share, parse_msgpack, data, self._inference.limits.max_json_parts
        )
        endpoint = fields.get("endpoint", "infer")
        if not isinstance(endpoint, str) or endpoint not in ENDPOINTS:
            raise BadRequest("bad-field", "'endpoint' has to be infer or reset.", pointer="/endpoint")
        return fields

    async def _infer(self, fields: Fields, watch: Stopwatch, end: FrameEnd) -> Message:
        policy = self._inference.lifecycle.ready_policy()
        session = self._sessions.enter(fields)
        self._frame_limiter.acquire((self._share, session.id))
        parser = FrameParser(self._start_options.apply(policy.info), self._inference.limits)
        frame = await self._decode_pool.run_waiting(
            self._share, parser.parse, fields, self._dialect, RequestAddress(path_id=session.id)
        )
        watch.lap("unpack")
        answer = await self._inference.infer(frame, session, watch, end, self._share, connection=self._sessions)
        reply = pack(self._dialect.write(replace(answer, echo=self._last)))
        self._last = {"prev_total_ms": answer.timing_ms["total"]}
        return reply

    def _reset(self, fields: Fields) -> Message:
        self._sessions.reset(fields)
        done = self._dialect.reset_done()
        return done if isinstance(done, str) else pack(done)
