"""The client's half of a stream against a model of the daemon's, with everything lost that can be lost."""

from __future__ import annotations

import itertools
from collections import deque
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from stillframe_client.streaming.asked import Asked, Kind
from stillframe_client.streaming.conversation import Conversation, Redial
from stillframe_client.streaming.incoming import Close
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
        self.computed: list[tuple[str, int, int]] = []  # secret (so: which life), epoch, what the frame shows

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
                superseded.append({"type": "superseded", "session": named(other), "by": message["seq"]})
        self.waiting.append((life, message))
        return superseded

    def compute(self) -> dict[str, Any]:
        """Answer the frame that is due."""
        life, message = self.waiting.popleft()
        place = message["epoch"], message["seq"]
        data, reply = life.replies[place]
        if reply is None:
            self.computed.append((life.secret, place[0], message["n"]))
            reply = {"type": "action", "session": named(message), "timing_ms": {}}
            reply["actions"] = np.array([[message["n"], place[1]]], np.float32)
            life.replies[place] = (data, reply)
        return reply

    def unplug(self) -> None:
        """The connection is gone, and with it whoever waits; what was computed is kept."""
        self.waiting.clear()


def named(message: dict[str, Any]) -> dict[str, Any]:
    """A frame's place as answers name it."""
    return {"id": message["session_id"], "epoch": message["epoch"], "seq": message["seq"]}


def problem(code: str, status: int, about: dict[str, Any]) -> dict[str, Any]:
    """A problem with whatever `about` names."""
    told = {
        name: about[key] for name, key in (("id", "session_id"), ("epoch", "epoch"), ("seq", "seq")) if key in about
    }
    return {"type": "problem", "problem": {"code": code, "status": status, "detail": "x"}, "session": told}


class Exchange:
    """A robot, its connection and the daemon; each move is something that can happen, if it can happen now."""

    def __init__(self, service: str, *, named: bool):
        self.talk = Conversation("arm" if named else None, service=service, clock=lambda: 0.0)
        self.daemon = ModelDaemon()
        self.connected = False
        self.up: deque[bytes] = deque()
        self.down: deque[bytes] = deque()
        self.frames: list[Asked] = []
        self.resets: list[Asked] = []
        self.possible = {"superseded"}  # what a frame may be told instead of its action

    # The robot.

    def ask(self) -> None:
        """Show a frame that is like no other."""
        self.frames.append(self.talk.ask(Kind.FRAME, {"n": len(self.frames)}))

    def reset(self) -> None:
        """End the episode."""
        self.resets.append(self.talk.ask(Kind.RESET))

    def give_up_newest(self) -> None:
        """Lose patience."""
        for asked in [*self.frames, *self.resets][-1:]:
            self.talk.give_up(asked)

    def give_up_a_frame(self) -> None:
        """Lose patience with the frame."""
        for asked in self.frames[-1:]:
            self.talk.give_up(asked)

    def hurry(self) -> None:
        """Show a frame, end the episode, and lose patience with that when it is on its way."""
        for move in (self.ask, self.reset, self.send, self.give_up_newest):
            move()

    def ping(self) -> None:
        """Wonder whether anybody is there."""
        self.talk.ping()

    # The network.

    def connect(self) -> None:
        """Dial."""
        if not self.connected:
            self.connected = True
            self.talk.connected()
            self.down.append(pack(HELLO))

    def drop(self) -> None:
        """Lose everything that is on its way."""
        if self.connected:
            self.connected = False
            self.up.clear()
            self.down.clear()
            self.daemon.unplug()
            self.talk.lost(Close())

    def send(self) -> None:
        """Give the network what is to go out."""
        if self.connected:
            self.up.extend(self.talk.outgoing())

    def upload(self) -> None:
        """One message reaches the daemon."""
        if self.connected and self.up:
            self.down.extend(pack(message) for message in self.daemon.hear(self.up.popleft()))

    def download(self) -> None:
        """One message reaches the robot."""
        if self.connected and self.down:
            try:
                self.talk.received(self.down.popleft())
            except Redial:
                self.drop()

    def cut_short(self) -> None:
        """The daemon hears everything, and its answers are lost."""
        for move in (self.send, *[self.upload] * 5, self.drop):
            move()

    def leave(self) -> None:
        """Follow a goaway."""
        if self.talk.may_leave:
            self.drop()

    def calm(self) -> None:
        """A while in which all that there is to say is said, and nothing is computed."""
        for _ in range(8):
            for move in (self.connect, self.send, self.upload, self.download, self.leave):
                move()

    # The daemon.

    def compute(self) -> None:
        """Answer the frame that is due."""
        if self.connected and self.daemon.waiting:
            self.down.append(pack(self.daemon.compute()))

    def go_away(self) -> None:
        """Ask the robot to leave."""
        if self.connected and self.talk.is_open:
            self.down.append(pack({"type": "goaway", "finish_within_s": 10}))

    def restart(self) -> None:
        """Forget everybody."""
        self.drop()
        self.possible.add("unknown-session")
        self.daemon.lives.clear()
        self.daemon.gone.clear()

    def evict(self) -> None:
        """Forget the session, and know it."""
        if not self.daemon.waiting:
            self.possible.add("session-evicted")
            self.daemon.gone.update(self.daemon.lives)
            self.daemon.lives.clear()

    def somebody_resets(self) -> None:
        """Somebody else ends the episode."""
        if not self.daemon.waiting:
            self.possible.add("stale-epoch")
            for life in self.daemon.lives.values():
                life.epoch, life.last = life.epoch + 1, -1

    # What must hold.

    def check(self) -> None:
        """No frame has another's action, none was computed twice by a session, and no error is a fault of ours."""
        for n, asked in enumerate(self.frames):
            assert asked.error is not None or not asked.settled or asked.answer.actions[0, 0] == n
        for asked in self.frames + self.resets:
            assert asked.error is None or getattr(asked.error, "code", None) in self.possible, asked.error
        assert len(self.daemon.computed) == len(set(self.daemon.computed))

    def finish(self) -> None:
        """Once the network is calm, everything that anybody waits for is settled."""
        for _ in range(100):
            self.calm()
            self.compute()
        if self.talk.wanted:  # its own name is taken, by a session whose secret was lost: that one's time runs out
            self.drop()
            self.evict()
        for _ in range(100):
            self.calm()
            self.compute()

        assert not self.talk.wanted


# As often as they stand here: most of the time, things go well.
MOVES = (
    *("calm", "ask", "compute", "download") * 6,
    *("connect", "send", "upload", "reset") * 3,
    *("drop", "give_up_newest", "give_up_a_frame", "go_away", "leave", "ping", "restart", "evict", "somebody_resets"),
    *("hurry", "cut_short") * 2,
)


@given(
    service=st.sampled_from(["lockstep", "realtime"]),
    named=st.booleans(),
    moves=st.lists(st.sampled_from(MOVES), min_size=60, max_size=150),
)
@settings(max_examples=300, deadline=None)
def test_whatever_is_lost(service, named, moves):
    """In any order of losses, restarts, evictions and resets, each frame gets its own action or a word why not."""
    exchange = Exchange(service, named=named)
    for move in moves:
        getattr(exchange, move)()
        exchange.check()
    exchange.finish()

    exchange.check()
