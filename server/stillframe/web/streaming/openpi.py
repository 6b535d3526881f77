"""openpi's WebSocket: the server's metadata first, then a binary map for each observation, strictly in turn.

Knows no engine. A text frame means an error and the connection is kept: openpi's own server closes it, its clients need
not. Each connection has sessions of its own.
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
from stillframe.web.http.objects import Fields, parse_map
from stillframe.web.http.session_fields import Addressed
from stillframe.web.middleware.access import pace
from stillframe.web.middleware.auth import Caller
from stillframe.web.service.frame_parser import Reader
from stillframe.web.streaming.connection import Connection, Cut, Message
from stillframe.web.streaming.native import NOT_YET, POLL_S, Streaming
from stillframe.web.streaming.openpi_sessions import Scenes
from stillframe_client.wire import RESTART, pack

ENDPOINTS = ("infer", "reset")
_LONGEST_PLACE = 128  # characters of a key that an error names


class OpenPIConnection:
    """One client: a task that reads, so that it is seen to go, and one that answers."""

    def __init__(self, streaming: Streaming, connection: Connection, caller: Caller, share: str, dialect: OpenPI):
        self._acting, self._unpacking = streaming.acting, streaming.unpacking
        self._rates, self._requests = streaming.rates, streaming.requests
        self._terms = streaming.terms
        self._connection = connection
        self._caller = caller
        self._share = share
        self._dialect = dialect
        self._path = connection.websocket.scope["path"]
        self._scenes = Scenes(self._acting.roster, caller.name, share)
        self._inbox: asyncio.Queue[Message | None] = asyncio.Queue(1)  # None: the daemon stops
        self._last: Mapping[str, Any] = {}  # the time of the last answer

    async def run(self, leaving: asyncio.Event) -> None:
        """Talk until the client goes or the daemon stops; what was asked before is answered."""
        try:
            async with asyncio.TaskGroup() as tasks:
                await self._connection.accept()
                tasks.create_task(self._read())
                tasks.create_task(self._converse())
                await leaving.wait()
                await self._inbox.put(None)
        except* Cut:
            pass
        finally:
            self._scenes.close()

    async def _read(self) -> None:
        while True:
            await self._inbox.put(await self._connection.read())

    async def _converse(self) -> None:
        await self._introduce()
        while (data := await self._inbox.get()) is not None:
            await self._connection.send(await self._reply(data))
        await self._connection.close(RESTART)
        raise Cut

    async def _introduce(self) -> None:
        """Send the metadata, once frames are taken: openpi's clients wait for it as long as it takes."""
        lifecycle = self._acting.lifecycle
        while lifecycle.state in NOT_YET:
            await asyncio.sleep(POLL_S)
        if (policy := lifecycle.policy) is not None:
            await self._connection.send(pack(self._dialect.metadata(self._terms.over(policy.info))))

    async def _reply(self, data: Message) -> Message:
        """The answer to one message: binary, or text for an error."""
        try:
            with self._acting.metrics.frame(self._path) as end:
                watch = Stopwatch()
                self._requests.allow((self._share,))
                fields = await self._fields(data)
                if fields.get("endpoint") == "reset":
                    return self._reset(fields)
                return await self._infer(fields, watch, end)
        except RequestError as error:
            await pace(error, self._requests, self._share)
            return f"{error.code}: {error.detail}" + (
                f" (at {error.pointer[:_LONGEST_PLACE]})" if error.pointer else ""
            )

    async def _fields(self, data: Message) -> Fields:
        if isinstance(data, str):
            raise BadRequest("bad-codec", "This wire takes msgpack in binary frames; a text frame came.")
        fields = await self._unpacking.in_turn(self._share, parse_map, data, self._acting.limits.max_json_parts)
        endpoint = fields.get("endpoint", "infer")
        if not isinstance(endpoint, str) or endpoint not in ENDPOINTS:
            raise BadRequest("bad-field", "'endpoint' has to be infer or reset.", pointer="/endpoint")
        return fields

    async def _infer(self, fields: Fields, watch: Stopwatch, end: FrameEnd) -> Message:
        policy = self._acting.lifecycle.ready_policy()
        session = self._scenes.enter(fields)
        self._rates.allow((self._share, session.id))
        reader = Reader(self._terms.over(policy.info), self._acting.limits)
        frame = await self._unpacking.in_turn(
            self._share, reader.read, fields, self._dialect, Addressed(path_id=session.id)
        )
        watch.lap("unpack")
        answer = await self._acting.answer(frame, session, watch, end, self._share, connection=self._scenes)
        reply = pack(self._dialect.write(replace(answer, echo=self._last)))
        self._last = {"prev_total_ms": answer.timing_ms["total"]}
        return reply

    def _reset(self, fields: Fields) -> Message:
        self._scenes.reset(fields)
        done = self._dialect.reset_done()
        return done if isinstance(done, str) else pack(done)
