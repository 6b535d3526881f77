"""The client's half of a stream against a model of the daemon's, with everything lost that can be lost."""

from __future__ import annotations

import itertools
from collections import deque
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from stillframe_client import errors
from stillframe_client.asked import Kind
from stillframe_client.conversation import Conversation, Redial
from stillframe_client.incoming import Close
from stillframe_client.wire import pack, unpack

HELLO = {"type": "hello", "protocol": 1, "server": "model", "state": "ready", "model": None, "limits": {}}


@dataclass
class Life:
    """A session on the model daemon."""

    secret: str
    service: str
    epoch: int = 0
    last: int = -1
    replies: dict[tuple[int, int], tuple[bytes, dict[str, Any] | None]] = field(default_factory=dict)


class ModelDaemon:
    """Keeps sessions as the daemon does: admits by epoch and seq, replays, forgets when told to."""

    def __init__(self) -> None:
        self.lives: dict[str, Life] = {}
        self.gone: set[str] = set()
        self.secrets = itertools.count()
        self.waiting: deque[tuple[Life, dict[str, Any]]] = deque()  # frames to compute; answered to the one connection
        self.computed: list[tuple[str, int, int]] = []  # secret (so: which life), epoch, seq

    def hear(self, data: bytes) -> list[dict[str, Any]]:
        """Answer one message, but for frames that have to be computed."""
        message = dict(unpack(data))
        kind = message["type"]
        if kind == "open":
            return [self.open(message)]
        if kind == "ping":
            return [{"type": "pong"}]
        life = self.lives.get(message["session_id"])
        if life is None:
            code = ("session-evicted", 410) if message["session_id"] in self.gone else ("unknown-session", 404)
            return [problem(*code, message)]
        if kind == "reset":
            if message["epoch"] != life.epoch:
                if message["epoch"] != life.epoch + 1:
                    return [problem("stale-epoch", 409, message)]
                life.epoch, life.last = life.epoch + 1, -1
            return [{"type": "reset", "session_id": message["session_id"], "epoch": life.epoch}]
        return self.admit(life, message, data)

    def open(self, message: dict[str, Any]) -> dict[str, Any]:
        """Open or resume a session."""
        session_id = message["session_id"]
        life = self.lives.get(session_id)
        if life is not None and message.get("secret") != life.secret:
            return problem("session-exists", 409, {"session_id": session_id})
        resumed = life is not None
        if life is None:
            life = self.lives[session_id] = Life(f"secret-{next(self.secrets)}", message["service"])
            self.gone.discard(session_id)
        told = {"session_id": session_id, "secret": life.secret, "epoch": life.epoch, "service": life.service}
        return {"type": "session", **told, "resumed": resumed}

    def admit(self, life: Life, message: dict[str, Any], data: bytes) -> list[dict[str, Any]]:
        """Take a frame in, or answer it."""
        place = message["epoch"], message["seq"]
        if message["epoch"] != life.epoch:
            return [problem("stale-epoch", 409, message)]
        if place in life.replies:
            before, reply = life.replies[place]
            assert before == data, "a place was given to two frames"
            if reply is not None:
                return [{**reply, "replayed": True}]
        elif message["seq"] <= life.last:
            return [problem("stale-seq", 409, message)]
        life.last = max(life.last, message["seq"])
        life.replies[place] = (data, None)
        superseded = []
        if life.service == "realtime":
            for other in [other for _, other in list(self.waiting)[1:]]:
                self.waiting.remove((life, other))
                life.replies[other["epoch"], other["seq"]] = (b"", None)
                superseded.append({"type": "superseded", "session": named(other), "by": message["seq"]})
                del life.replies[other["epoch"], other["seq"]]
        self.waiting.append((life, message))
        return superseded

    def compute(self) -> dict[str, Any]:
        """Answer the frame that is due."""
        life, message = self.waiting.popleft()
        place = message["epoch"], message["seq"]
        data, reply = life.replies[place]
        if reply is None:
            self.computed.append((life.secret, *place))
            reply = {"type": "action", "session": named(message), "timing_ms": {}}
            reply["actions"] = np.array([[message["n"], place[1]]], np.float32)
            life.replies[place] = (data, reply)
        return reply

    def unplug(self) -> None:
        """The connection is gone, and with it whoever waits; what was computed is kept."""
        for life, message in self.waiting:
            life.replies.pop((message["epoch"], message["seq"]))
        self.waiting.clear()


def named(message: dict[str, Any]) -> dict[str, Any]:
    """A frame's place as answers name it."""
    return {"id": message["session_id"], "epoch": message["epoch"], "seq": message["seq"]}


def problem(code: str, status: int, about: dict[str, Any]) -> dict[str, Any]:
    """A problem with whatever `about` names."""
    told = {name: about[key] for name, key in (("id", "session_id"), ("epoch", "epoch"), ("seq", "seq")) if key in about}
    return {"type": "problem", "problem": {"code": code, "status": status, "detail": "x"}, "session": told}


class Exchange(RuleBasedStateMachine):
    """Everything that can happen between a robot, its connection and the daemon, in any order."""

    @initialize(service=st.sampled_from(["lockstep", "realtime"]), named=st.booleans())
    def begin(self, service: str, named: bool) -> None:  # noqa: FBT001 -- hypothesis passes by name
        self.now_s = 0.0
        self.talk = Conversation("arm" if named else None, service=service, clock=lambda: self.now_s)
        self.daemon = ModelDaemon()
        self.connected = False
        self.up: deque[bytes] = deque()
        self.down: deque[bytes] = deque()
        self.frames: list[tuple[int, Any]] = []  # what it shows, what was asked
        self.resets: list[Any] = []

    # The robot.

    @rule()
    def ask(self) -> None:
        self.frames.append((len(self.frames), self.talk.ask(Kind.FRAME, {"n": len(self.frames)})))

    @rule()
    def ask_and_send(self) -> None:
        self.ask()
        self.send()

    @rule()
    def reset(self) -> None:
        self.resets.append(self.talk.ask(Kind.RESET))

    @rule(which=st.integers(0, 100))
    def give_up(self, which: int) -> None:
        everything = [asked for _, asked in self.frames] + self.resets
        if everything:
            self.talk.give_up(everything[which % len(everything)])

    @rule()
    def ping(self) -> None:
        self.talk.ping()

    # The network.

    @rule()
    def calm(self) -> None:
        """A while without anything out of the ordinary: all that is there to say is said, but nothing is computed."""
        for _ in range(12):
            self.turn("connect", "send", "upload", "download")

    @rule(n=st.integers(1, 3))
    def calm_and_busy(self, n: int) -> None:
        """The same, and some frames are answered."""
        self.calm()
        for _ in range(n):
            self.turn("compute", "download")

    def turn(self, *steps: str) -> None:
        """Let each of the steps happen, if it can."""
        for step in steps:
            able = {
                "connect": not self.connected,
                "send": self.connected,
                "upload": self.connected and self.up,
                "download": self.connected and self.down,
                "compute": self.connected and self.daemon.waiting,
            }
            if able[step]:
                getattr(self, step)()

    @precondition(lambda self: not self.connected)
    @rule()
    def connect(self) -> None:
        self.connected = True
        self.talk.connected()
        self.down.append(pack(HELLO))

    @precondition(lambda self: self.connected)
    @rule()
    def drop(self) -> None:
        self.connected = False
        self.up.clear()
        self.down.clear()
        self.daemon.unplug()
        self.talk.lost(Close())

    @precondition(lambda self: self.connected)
    @rule()
    def send(self) -> None:
        self.up.extend(self.talk.outgoing())

    @precondition(lambda self: self.connected and self.up)
    @rule()
    def upload(self) -> None:
        self.down.extend(pack(message) for message in self.daemon.hear(self.up.popleft()))

    @precondition(lambda self: self.connected and self.down)
    @rule()
    def download(self) -> None:
        try:
            self.talk.received(self.down.popleft())
        except Redial:
            self.drop()

    @rule()
    def leave(self) -> None:
        if self.connected and self.talk.may_leave:
            self.drop()

    # The daemon.

    @precondition(lambda self: self.daemon.waiting)
    @rule()
    def compute(self) -> None:
        self.down.append(pack(self.daemon.compute()))

    @rule()
    def go_away(self) -> None:
        if self.connected and self.talk.is_open:
            self.down.append(pack({"type": "goaway", "finish_within_s": 10}))

    @rule()
    def restart(self) -> None:
        if self.connected:
            self.drop()
        self.daemon.lives.clear()
        self.daemon.gone.clear()

    @rule()
    def evict(self) -> None:
        if not self.daemon.waiting:
            self.daemon.gone.update(self.daemon.lives)
            self.daemon.lives.clear()

    @precondition(lambda self: not self.daemon.waiting)
    @rule()
    def somebody_resets(self) -> None:
        for life in self.daemon.lives.values():
            life.epoch, life.last = life.epoch + 1, -1

    # What must hold.

    @invariant()
    def every_answer_is_that_frames(self) -> None:
        """No frame is ever answered with another frame's action."""
        for n, asked in getattr(self, "frames", []):
            if asked.settled and asked.error is None:
                assert asked.answer.actions[0, 0] == n

    @invariant()
    def nothing_is_computed_twice(self) -> None:
        """A place of a session's episode is computed once, however often its frame is sent."""
        computed = self.daemon.computed if hasattr(self, "daemon") else []
        assert len(computed) == len(set(computed))

    @invariant()
    def errors_are_such_as_may_be(self) -> None:
        """Nobody is told of a stale answer or of garbage by a daemon that does as it should."""
        for _, asked in getattr(self, "frames", []):
            assert asked.error is None or isinstance(asked.error, (errors.Conflict, errors.SessionGone)), asked.error

    def teardown(self) -> None:
        """Once the network is calm, everything that anybody waits for is settled."""
        if not hasattr(self, "talk"):
            return
        for _ in range(1000):
            self.turn("connect", "send", "upload", "download", "compute")
            self.leave()
            if not self.talk.wanted:
                break

        assert not self.talk.wanted


Exchange.TestCase.settings = settings(
    max_examples=200, stateful_step_count=40, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
test_any_order = Exchange.TestCase
