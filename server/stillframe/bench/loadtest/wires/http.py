"""HTTP: a session by its address, a POST for each frame, over a few connections that are kept.

Knows the routes under /v1/sessions.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from typing import Any
from urllib.parse import quote

from stillframe.bench.loadtest.wires.base import UNKNOWN, Ear, Ending, Outcome, Robot, judged
from stillframe.bench.loadtest.wires.posting import Posting, Reply
from stillframe_client import PolicyError, WireError
from stillframe_client.wire import MSGPACK, pack

JSON_TYPE, MSGPACK_TYPE = "application/json", "application/msgpack"
UNREACHABLE = "unreachable"  # the code of a frame whose connection broke
CONNECTIONS = 4  # so many frames of a robot can be under way


class HttpWire:
    """Implements base.Wire."""

    def __init__(self, robot: Robot, ear: Ear):
        self._robot = robot
        self._ear = ear
        target = robot.target
        self._path = f"/v1/sessions/{quote(robot.session_id, safe='')}"
        self._free: asyncio.LifoQueue[Posting] = asyncio.LifoQueue()
        for _ in range(CONNECTIONS):
            self._free.put_nowait(Posting(target.url, target.token))
        self._asking: set[asyncio.Task[None]] = set()

    async def open(self) -> None:
        """See base.Wire."""
        service = "realtime" if self._robot.realtime else "lockstep"
        await self._ask("POST", "/v1/sessions", {"session_id": self._robot.session_id, "service": service})

    async def send(self, seq: int) -> None:
        """See base.Wire."""
        connection = await self._free.get()
        task = asyncio.create_task(self._frame(connection, seq))
        self._asking.add(task)
        task.add_done_callback(self._asking.discard)

    async def close(self) -> None:
        """See base.Wire."""
        for task in list(self._asking):
            task.cancel()
        with contextlib.suppress(PolicyError):
            await self._ask("DELETE", self._path, {})
        while not self._free.empty():
            self._free.get_nowait().close()

    async def _ask(self, method: str, path: str, fields: dict[str, Any]) -> Reply:
        connection = Posting(self._robot.target.url, self._robot.target.token)
        try:
            return await connection.ask(method, path, json.dumps(fields).encode(), JSON_TYPE)
        finally:
            connection.close()

    async def _frame(self, connection: Posting, seq: int) -> None:
        body = pack(self._robot.target.fields(seq))  # without a seq: two connections may swap two frames
        try:
            reply = await connection.ask("POST", f"{self._path}/act", body, MSGPACK_TYPE)
        except PolicyError:
            self._ear.ended(Ending(seq, Outcome.PROBLEM, UNREACHABLE))
        else:
            self._ear.ended(_ending(seq, reply))
        finally:
            self._free.put_nowait(connection)


def _ending(seq: int, reply: Reply) -> Ending:
    try:
        if reply.status == 200:
            return judged(seq, "action", MSGPACK.load(reply.body))
        return judged(seq, "problem", {"problem": json.loads(reply.body)})
    except (WireError, ValueError):
        return Ending(seq, Outcome.PROBLEM, UNKNOWN)
