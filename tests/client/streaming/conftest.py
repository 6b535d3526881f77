"""A daemon that does what a test's script says, over real WebSockets, and one in memory, in time that costs nothing.

Of the first each connection has a script of its own. Neither knows a policy.
"""

from __future__ import annotations

import asyncio
import math
import selectors
import socket
import threading
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest
from websockets.exceptions import ConnectionClosed
from websockets.http11 import Request, Response
from websockets.sync.server import Server, ServerConnection, serve

from stillframe_client.streaming.incoming import Close
from stillframe_client.streaming.websocket import Dropped
from stillframe_client.wire import MSGPACK_PROTOCOL, pack, unpack

BOUND_S = 20.0
LONGEST_S = 3600.0  # of time that costs nothing
SECRET = "it resumes"  # noqa: S105 -- for scripts
CARD = {
    "name": "sums",
    "family": "openvla",
    "observation": {"cameras": ["front", "wrist"], "image_size": [224, 224]},
    "action": {"fields": [{"name": "dx"}, {"name": "gripper"}], "gripper": "1 = open, 0 = closed", "chunk_horizon": 2},
    "norm_stats": {"jaco": {}},
    "default_unnorm_key": "jaco",
}


class Peer:
    """The daemon's end of one connection."""

    def __init__(self, connection: ServerConnection, heard: list[dict[str, Any]]):
        self.connection = connection
        self.heard = heard
        self.raw = b""  # the last message as it came

    def say(self, kind: str, **members: Any) -> None:
        """Send one message."""
        self.connection.send(pack({"type": kind, **members}))

    def hear(self, kind: str) -> dict[str, Any]:
        """Wait for the next message, which has to be of that kind; pings on the way are answered."""
        while True:
            data = self.connection.recv(timeout=BOUND_S)
            assert isinstance(data, bytes)
            message = unpack(data)
            if message["type"] == "ping":
                self.say("pong")
                continue
            self.raw = data
            self.heard.append(message)
            assert message["type"] == kind, f"expected {kind}, heard {message['type']}"
            return dict(message)

    def hello(self, state: str = "ready", **members: Any) -> None:
        """Say hello."""
        self.say(
            "hello", **{"protocol": 1, "server": "scripted", "state": state, "model": CARD, "limits": {}, **members}
        )

    def greet(self, *, epoch: int = 0, resumed: bool = False, **members: Any) -> dict[str, Any]:
        """Say hello, with `members` in place of its own, and open the session that is asked for."""
        self.hello(**members)
        asked = self.hear("open")
        session = {"session_id": asked["session_id"], "secret": SECRET, "epoch": epoch}
        self.say("session", **session, service=asked["service"], resumed=resumed)
        return asked

    def act(self, frame: dict[str, Any], value: float | None = None, **members: Any) -> None:
        """Answer a frame with an action of two numbers: `value`, or the sum of its pixels, and its seq."""
        value = float(np.asarray(frame["image"], np.int64).sum()) if value is None else value
        actions = np.array([[value, frame["seq"]], [-value, frame["seq"]]], np.float32)
        echo = {"t_obs_ns": frame["t_obs_ns"]} if "t_obs_ns" in frame else {}
        self.say(
            "action", **{"actions": actions, "timing_ms": {"total": 1.5}, "session": place(frame), **echo, **members}
        )

    def refuse(self, code: str, status: int, frame: dict[str, Any] | None = None, **members: Any) -> None:
        """Answer a frame, or no frame in particular, with a problem."""
        about = {} if frame is None else {"session": place(frame)}
        problem = {"code": code, "status": status, "detail": "So it is.", "request_id": "r-1", **members}
        self.say("problem", problem=problem, **about)

    def pong(self) -> None:
        """Wait for a ping, and answer it."""
        message = unpack(self.connection.recv(timeout=BOUND_S))
        assert message["type"] == "ping"
        self.say("pong")

    def farewell(self) -> None:
        """Wait for the session's close, answer it, and wait until the client leaves."""
        closing = self.hear("close")
        self.say("closed", session_id=closing["session_id"])
        self.until_gone()

    def vanish(self, how: int = socket.SHUT_RDWR) -> None:
        """Go without a word, as a process does that is killed; or say nothing more, and go on listening."""
        self.connection.socket.shutdown(how)

    def until_gone(self) -> None:
        """Wait until the client leaves."""
        while True:
            try:
                self.connection.recv(timeout=BOUND_S)
            except ConnectionClosed:
                return


def place(frame: dict[str, Any]) -> dict[str, Any]:
    """The place of a frame, as answers name it."""
    return {"id": frame["session_id"], "epoch": frame["epoch"], "seq": frame["seq"]}


Script = Callable[[Peer], None]


@dataclass
class Scripted:
    """A running daemon: its address, what it heard on all connections, and how each of its scripts went."""

    scripts: list[Script]
    heard: list[dict[str, Any]] = field(default_factory=list)
    upgrades: list[Request] = field(default_factory=list)
    failures: list[BaseException] = field(default_factory=list)
    refusals: list[Response | None] = field(default_factory=list)  # for the upgrades that come first
    server: Server | None = None

    @property
    def url(self) -> str:
        """Where it listens."""
        assert self.server is not None
        return f"http://127.0.0.1:{self.server.socket.getsockname()[1]}"

    @property
    def frames(self) -> list[dict[str, Any]]:
        """The frames that were heard."""
        return [message for message in self.heard if message["type"] == "frame"]

    def upgrade(self, _: ServerConnection, request: Request) -> Response | None:
        """Let the client in, or not yet."""
        self.upgrades.append(request)
        return self.refusals.pop(0) if self.refusals else None

    def handle(self, connection: ServerConnection) -> None:
        """Run the next script; a client too many is told nothing."""
        try:
            self.scripts.pop(0)(Peer(connection, self.heard))
        except ConnectionClosed:
            pass
        except BaseException as failure:  # noqa: BLE001 -- the test's own thread raises it
            self.failures.append(failure)


@pytest.fixture
def scripted() -> Iterator[Callable[..., Scripted]]:
    """Start a daemon: `scripted(first, second)` gives its first connection to `first`. Failed scripts fail the test."""
    running: list[tuple[Scripted, threading.Thread]] = []

    def start(*scripts: Script, refusals: list[Response | None] | None = None, **options: Any) -> Scripted:
        daemon = Scripted(list(scripts), refusals=refusals or [])
        daemon.server = serve(
            daemon.handle,
            "127.0.0.1",
            0,
            subprotocols=[MSGPACK_PROTOCOL],  # type: ignore[list-item] -- a NewType of str
            process_request=daemon.upgrade,
            compression=None,
            max_size=2**24,
            close_timeout=1,
            **options,
        )
        thread = threading.Thread(target=daemon.server.serve_forever)
        thread.start()
        running.append((daemon, thread))
        return daemon

    yield start
    for daemon, thread in running:
        assert daemon.server is not None
        daemon.server.shutdown()
        thread.join(BOUND_S)
    assert [failure for daemon, _ in running for failure in daemon.failures] == []


class Leap(selectors.SelectSelector):
    """Waits for nothing: the time until the next thing that is due has passed at once."""

    now_s = 0.0

    def select(self, timeout: float | None = None) -> Any:
        """Let the time pass."""
        self.now_s += math.inf if timeout is None else max(0.0, timeout)
        assert self.now_s < LONGEST_S, "what is waited for will not come"
        return super().select(0)


class VirtualLoop(asyncio.SelectorEventLoop):
    """A loop whose time passes only while everything waits, and then at once. For what needs no network."""

    def __init__(self) -> None:
        self.leap = Leap()
        super().__init__(self.leap)

    def time(self) -> float:
        """Say what time it is: 0 when the loop was made."""
        return self.leap.now_s


@pytest.fixture
def virtual() -> Iterator[asyncio.Runner]:
    """Runs coroutines in time that costs nothing."""
    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        yield runner


class Line:
    """A connection to a daemon in memory, as the client holds it."""

    def __init__(self, daemon: Memory):
        self.daemon = daemon
        self.heard: list[tuple[float, dict[str, Any]]] = []  # when, what
        self.inbox: asyncio.Queue[bytes | Close] = asyncio.Queue()
        self.end: Close | None = None
        self.closed = False  # by the client
        self.say({"type": "hello", "protocol": 1, "state": "ready", "model": None})

    # The client's end.

    async def send(self, data: bytes) -> None:
        """Take one message, and answer it."""
        if self.end is not None:
            raise Dropped(self.end)
        message = dict(unpack(data))
        self.heard.append((asyncio.get_running_loop().time(), message))
        self.daemon.hear(self, message)

    async def receive(self) -> bytes:
        """Wait for the next message."""
        data = await self.inbox.get()
        if isinstance(data, Close):
            raise Dropped(data)
        return data

    async def close(self) -> None:
        """Take leave of the client."""
        await asyncio.sleep(self.daemon.closing_s)
        self.closed = True

    # The daemon's.

    def say(self, message: dict[str, Any]) -> None:
        """Send a message."""
        self.inbox.put_nowait(pack(message))

    def act(self, frame: dict[str, Any] | None = None, **about: Any) -> None:
        """Answer a frame, the last one unless told otherwise; `about`: members of its place that are others."""
        frame = frame or next(message for _, message in reversed(self.heard) if message["type"] == "frame")
        self.say({"type": "action", "actions": np.ones((1, 2), np.float32), "session": {**place(frame), **about}})

    def drop(self, end: Close | None = None) -> None:
        """Break."""
        self.end = end or Close()
        self.inbox.put_nowait(self.end)


@dataclass
class Memory:
    """A daemon in memory: it opens sessions, answers frames at once, and forgets nothing.

    `outcomes` are of the dials that come first: None for a connection, an error to raise, or "hang".
    """

    outcomes: deque[Any]
    lines: list[Line] = field(default_factory=list)
    dials_s: list[float] = field(default_factory=list)  # when it was dialled
    mute: set[str] = field(default_factory=set)  # kinds of messages that are not answered
    break_at: list[str] = field(default_factory=list)  # kinds of messages at which the connection breaks, once each
    answers: dict[str, Callable[[Line, dict[str, Any]], None]] = field(default_factory=dict)  # other ones, by kind
    closing_s: float = 0.0  # what a goodbye takes
    known: bool = False  # it has opened a session

    async def dial(self, *_: Any, **__: Any) -> Any:
        """Be dialled."""
        self.dials_s.append(asyncio.get_running_loop().time())
        outcome = self.outcomes.popleft() if self.outcomes else None
        if isinstance(outcome, Exception):
            raise outcome
        if outcome == "hang":
            await asyncio.sleep(1e6)
        self.lines.append(Line(self))
        return self.lines[-1]

    @property
    def frames(self) -> list[dict[str, Any]]:
        """The frames that were heard, on all connections."""
        return [message for line in self.lines for _, message in line.heard if message["type"] == "frame"]

    def hear(self, line: Line, message: dict[str, Any]) -> None:
        """Answer a message."""
        kind = message["type"]
        if kind in self.mute:
            return
        if self.break_at and self.break_at[0] == kind:
            self.break_at.pop(0)
            line.drop()
        elif kind in self.answers:
            self.answers[kind](line, message)
        elif kind == "frame":
            line.act(message)
        else:
            session = {"session_id": message.get("session_id"), "epoch": message.get("epoch", 0)}
            word = {"open": "session", "ping": "pong", "close": "closed"}.get(kind, kind)
            line.say({"type": word, **session, "secret": SECRET, "resumed": self.known})
            self.known = True


@pytest.fixture
def new_memory() -> Callable[..., Memory]:
    """Makes daemons in memory: `new_memory(None, error)` takes the first dial and refuses the second one."""
    return lambda *outcomes: Memory(deque(outcomes))
