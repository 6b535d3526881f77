"""WebSocket clients of the app without a network, so that a test decides when each side reads, stalls or goes.

Knows ASGI as uvicorn speaks it; no test.
"""

from __future__ import annotations

import asyncio
import gc
import json
from collections.abc import Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest

from stillframe_client.wire import JSON, JSON_PROTOCOL, MSGPACK, MSGPACK_PROTOCOL, encode_array, unpack

WAIT_S = 60.0  # bounds what has to happen
STREAM = "/v1/stream"
OURS = "web-test"  # the desk's log


class Refused(Exception):
    """The upgrade was answered with a problem instead."""

    def __init__(self, status: int, headers: Mapping[str, str], problem: Mapping[str, Any]):
        super().__init__(f"{status}: {problem.get('detail')}")
        self.status = status
        self.headers = headers
        self.problem = problem


@dataclass(eq=False)
class Socket:
    """One client. What it says is msgpack, or JSON where that is its protocol."""

    app: Any
    path: str = STREAM
    protocol: str | None = MSGPACK_PROTOCOL
    headers: Sequence[tuple[str, str]] = ()
    peer: str = "127.0.0.1"
    code: int | None = None  # that the app closed with
    reason: str = ""
    accepted: str | None = None  # the sub-protocol
    upgrade: Sequence[tuple[bytes, bytes]] = ()  # headers of the answer that accepted it
    reads: asyncio.Event = field(default_factory=asyncio.Event)  # cleared: the app's sends wait, as on a full socket
    _incoming: asyncio.Queue[dict[str, Any]] = field(default_factory=asyncio.Queue)  # to the app
    _outgoing: asyncio.Queue[dict[str, Any]] = field(default_factory=asyncio.Queue)  # from it
    _gone: bool = False

    async def __aenter__(self) -> Socket:
        self.reads.set()
        self._incoming.put_nowait({"type": "websocket.connect"})
        self.talk = asyncio.create_task(self.app(self._scope(), self._incoming.get, self._send))
        first = await self._next()
        if first["type"] == "websocket.http.response.start":
            body = await self._next()
            headers = {name.decode(): value.decode() for name, value in first["headers"]}
            await self.talk
            raise Refused(first["status"], headers, json.loads(body["body"]))
        assert first["type"] == "websocket.accept"
        self.accepted, self.upgrade = first["subprotocol"], tuple(first["headers"])
        return self

    async def __aexit__(self, *_: object) -> None:
        self.drop()
        await self.talk

    def drop(self) -> None:
        """Be gone: the app hears of it, and whatever it sends fails."""
        if not self._gone:
            self._gone = True
            self._incoming.put_nowait({"type": "websocket.disconnect", "code": 1006})
            self.reads.set()

    def put(self, data: bytes | str) -> None:
        """Send a message as it is."""
        self._incoming.put_nowait({"type": "websocket.receive", "text" if isinstance(data, str) else "bytes": data})

    def say(self, kind: str, **members: Any) -> None:
        """Send a message of the native stream."""
        codec = JSON if self.protocol == JSON_PROTOCOL else MSGPACK
        self.put(codec.dump({"type": kind, **members}))

    async def hear_data(self) -> bytes | str:
        """The next message as it is; fails if the app closes instead."""
        event = await self._next()
        assert event["type"] == "websocket.send", f"closed with {self.code} {self.reason!r}"
        data = event.get("bytes")
        return event["text"] if data is None else data  # type: ignore[no-any-return] # ASGI's events are untyped

    async def hear(self, kind: str | None = None) -> dict[str, Any]:
        """The next message of the native stream, which has to be of that type."""
        data = await self.hear_data()
        message = json.loads(data) if isinstance(data, str) else unpack(data)
        assert kind in (None, message["type"]), message
        return message  # type: ignore[no-any-return] # JSON

    async def hear_all(self, count: int) -> list[dict[str, Any]]:
        """The next messages."""
        return [await self.hear() for _ in range(count)]

    async def ask(self, kind: str, **members: Any) -> dict[str, Any]:
        """Say something and hear what comes next."""
        self.say(kind, **members)
        return await self.hear()

    async def hear_close(self) -> int:
        """The code that the app closes with, now."""
        event = await self._next()
        assert event["type"] == "websocket.close", event
        await self.talk
        return self.code or 0

    def unheard(self) -> int:
        """How many messages came that nobody asked for."""
        return self._outgoing.qsize()

    def _scope(self) -> dict[str, Any]:
        headers = [("host", "localhost"), *self.headers]
        return {
            "type": "websocket",
            "asgi": {"version": "3.0", "spec_version": "2.4"},
            "http_version": "1.1",
            "scheme": "ws",
            "path": self.path,
            "raw_path": self.path.encode(),
            "root_path": "",
            "query_string": b"",
            "headers": [(name.lower().encode(), value.encode()) for name, value in headers],
            "client": (self.peer, 12345),
            "server": ("localhost", 80),
            "subprotocols": [] if self.protocol is None else [self.protocol],
            "state": {},
            "extensions": {"websocket.http.response": {}},
        }

    async def _next(self) -> dict[str, Any]:
        async with asyncio.timeout(WAIT_S):
            return await self._outgoing.get()

    async def _send(self, message: dict[str, Any]) -> None:
        """What the app sends: uvicorn waits for a socket that is full, and fails once it is closed."""
        await self.reads.wait()
        if self._gone:
            raise OSError
        self._outgoing.put_nowait(message)
        if message["type"] == "websocket.close":
            self.code, self.reason, self._gone = message["code"], message["reason"], True
            self._incoming.put_nowait({"type": "websocket.disconnect", "code": message["code"]})


@pytest.fixture
def sockets() -> type[Socket]:
    """The class of clients, for tests of more than the native stream."""
    return Socket


@pytest.fixture
def refused() -> type[Refused]:
    """What a client raises whose upgrade is answered with a problem."""
    return Refused


@pytest.fixture
def stream(desk: Any) -> Callable[..., Socket]:
    """A client of the desk's native stream, not yet connected: `stream(protocol=..., headers=...)`."""

    def make(**how: Any) -> Socket:
        return Socket(desk.app, **how)

    return make


@pytest.fixture
def openpi(desk: Any) -> Callable[..., Socket]:
    """A client of the desk's openpi wire, not yet connected."""

    def make(path: str = "/", **how: Any) -> Socket:
        return Socket(desk.app, path, protocol=None, **how)

    return make


@pytest.fixture
def play(caplog: pytest.LogCaptureFixture) -> Callable[..., Any]:
    """Run a test's story: in time, with nothing left running, no exception lost, no error logged but those expected."""

    def through(story: Coroutine[Any, Any, Any], *, logs: int = 0) -> Any:
        lost: list[dict[str, Any]] = []
        gc.freeze()  # what was there before has no part in the search for garbage below

        async def bounded() -> Any:
            asyncio.get_running_loop().set_exception_handler(lambda _, context: lost.append(context))
            async with asyncio.timeout(3 * WAIT_S):
                told = await story
            left = asyncio.all_tasks() - {asyncio.current_task()}
            return told, {task for task in left if not task.cancelling()}

        told, left = asyncio.run(bounded())
        gc.collect()  # a task's exception that nobody took is told as the task goes
        assert left == set()
        assert lost == []
        assert len([record for record in caplog.records if record.levelname == "ERROR"]) == logs
        return told

    return through


@pytest.fixture
def until() -> Callable[[Callable[[], bool]], Coroutine[Any, Any, None]]:
    """Wait, within reason, for something that another thread or task does."""

    async def wait(condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(WAIT_S):
            while not condition():
                await asyncio.sleep(0.002)

    return wait


@pytest.fixture
def shot(picture: np.ndarray) -> dict[str, Any]:
    """The members of a frame in msgpack, without its session."""
    return {"image": picture, "instruction": "go"}


@pytest.fixture
def json_shot(picture: np.ndarray) -> dict[str, Any]:
    """The same in JSON."""
    return {"image": encode_array(picture), "instruction": "go"}
