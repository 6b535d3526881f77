"""A rosbridge_server in this process, over a driver node: real sockets, real time, and all that goes wrong with them.

Knows of ROS what the bridge uses. Stricter than the real one: what was not advertised on this connection, or with
another type, is refused with a status.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from websockets.asyncio.server import ServerConnection, serve
from websockets.exceptions import ConnectionClosed

SPIN_S = 0.002


@dataclass(eq=False)
class Session:
    """What one client said."""

    connection: ServerConnection
    advertised: dict[str, dict[str, Any]] = field(default_factory=dict)
    subscribed: dict[str, dict[str, Any]] = field(default_factory=dict)


class FakeDriver:
    """Server and node. `node` is only touched on the server's thread: tests change it by `do`."""

    def __init__(self, node: Any, port: int):
        self.node, self.port, self.url = node, port, f"ws://127.0.0.1:{port}"
        self.sessions: list[Session] = []  # all that ever were, the newest last
        self.delay_s = 0.0  # of what comes in
        self.is_deaf = False  # does not take what comes in
        self.topics: dict[str, str] = {}  # of others: topic -> type
        self._loop = asyncio.new_event_loop()
        self._open: set[Session] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._thread = threading.Thread(target=self._loop.run_forever)
        self._thread.start()
        self._await(self._up())
        self._spin = asyncio.run_coroutine_threadsafe(self._spinning(), self._loop)

    def do(self, action: Callable[..., Any], *arguments: Any) -> Any:
        """Run it on the server's thread and return what it returns."""

        async def run() -> Any:
            return action(*arguments)

        return self._await(run())

    def until(self, holds: Callable[[], Any], within_s: float = 60.0) -> float:
        """Wait until it holds, looked at on the server's thread; return how long that took."""
        begin_s = time.monotonic()
        while not self.do(holds):
            assert time.monotonic() - begin_s < within_s, f"not within {within_s} s"
            time.sleep(0.005)
        return time.monotonic() - begin_s

    def cut(self) -> None:
        """Break every connection, as a network does."""
        self.do(lambda: [session.connection.transport.abort() for session in list(self._open)])

    def down(self) -> None:
        """End the server; the driver goes on."""
        self._await(self._down())

    def up(self) -> None:
        """Start it again, at the same address."""
        self._await(self._up())

    def hang(self, seconds: float) -> None:
        """Stand still, as a stopped process: nothing is read or answered; returns at once."""
        self._loop.call_soon_threadsafe(time.sleep, seconds)

    def send(self, text: str | bytes) -> None:
        """Send it to every client as it is."""
        self.do(self._send_to_all, text)

    def say(self, message: dict[str, Any]) -> None:
        """Send an operation to every client."""
        self.send(json.dumps(message))

    def publish(self, topic: str, message: dict[str, Any]) -> None:
        """Send a message to those who asked for the topic."""
        self.do(self._publish, topic, message)

    def publish_in(self, seconds: float, topic: str, message: dict[str, Any]) -> None:
        """The same, a while from now."""
        self.do(self._loop.call_later, seconds, self._publish, topic, message)

    def stream(self, topic: str, message: dict[str, Any], seconds: float, hz: float = 50.0) -> None:
        """The same, over and over for so long, from now on."""
        for number in range(int(seconds * hz)):
            self.publish_in(number / hz, topic, message)

    def close(self) -> None:
        """End it all."""
        self._spin.cancel()
        self._await(self._down())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def _await(self, coroutine: Any) -> Any:
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result(30)

    async def _up(self) -> None:
        self._server = await serve(self._serve, "127.0.0.1", self.port, compression=None, ping_interval=None)

    async def _down(self) -> None:
        self._server.close(close_connections=False)
        for session in list(self._open):
            session.connection.transport.abort()
        await self._server.wait_closed()
        for task in list(self._tasks):
            await task

    async def _spinning(self) -> None:
        while True:
            for topic, message in self.node.advance(time.monotonic()):
                self._publish(topic, message)
            await asyncio.sleep(SPIN_S)

    async def _serve(self, connection: ServerConnection) -> None:
        session = Session(connection)
        self.sessions.append(session)
        self._open.add(session)
        try:
            with contextlib.suppress(ConnectionClosed):
                async for text in connection:
                    self._later(self.delay_s, self._take, session, json.loads(text))
        finally:
            self._open.discard(session)

    def _take(self, session: Session, message: dict[str, Any]) -> None:
        self.node.now_s = max(self.node.now_s, time.monotonic())
        operation, topic = message["op"], message.get("topic")
        if self.is_deaf:
            return
        if operation == "advertise":
            session.advertised[topic] = message
        elif operation == "subscribe":
            session.subscribed[topic] = message
            self._check(session, topic, message["type"], {**self.node.published, **self.topics})
        elif operation == "publish":
            kind = session.advertised.get(topic, {}).get("type", "not advertised")
            if self._check(session, topic, kind, self.node.subscribed):
                self.node.receive(topic, message["msg"])
        elif operation == "call_service":
            self._call(session, message)

    def _check(self, session: Session, topic: str, kind: str, known: dict[str, str]) -> bool:
        if topic in known and known[topic] != kind:
            self._send(session, {"op": "status", "level": "error", "msg": f"{topic} is {known[topic]}, not {kind}"})
        return known.get(topic) == kind

    def _call(self, session: Session, message: dict[str, Any]) -> None:
        if message["service"] == "/rosapi/subscribers":
            listens = message["args"]["topic"] in self.node.subscribed and not self.node.is_down
            values, after_s = {"subscribers": [self.node.name] if listens else []}, 0.0
        else:
            values, after_s = self.node.call(message["service"])
        answer = {"op": "service_response", "id": message["id"], "service": message["service"], "values": values}
        self._later(after_s, self._send, session, {**answer, "result": isinstance(values, dict)})

    def _later(self, seconds: float, action: Callable[..., None], *arguments: Any) -> None:
        if seconds:
            self._loop.call_later(seconds, action, *arguments)
        else:
            action(*arguments)

    def _publish(self, topic: str, message: dict[str, Any]) -> None:
        known = {**self.node.published, **self.topics}
        for session in self._open:
            asked = session.subscribed.get(topic)
            if asked is not None and known.get(topic) == asked["type"]:
                self._send(session, {"op": "publish", "topic": topic, "msg": message})

    def _send(self, session: Session, message: dict[str, Any]) -> None:
        self._send_text(session, json.dumps(message))

    def _send_to_all(self, text: str | bytes) -> None:
        for session in self._open:
            self._send_text(session, text)

    def _send_text(self, session: Session, text: str | bytes) -> None:
        task = self._loop.create_task(_quietly(session.connection, text))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


async def _quietly(connection: ServerConnection, text: str | bytes) -> None:
    with contextlib.suppress(ConnectionClosed):
        await connection.send(text)
