"""The client's half of a stream against a model of the daemon's, with everything lost that can be lost."""

from __future__ import annotations

import itertools
from collections import deque
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stillframe_client import BadReply, PolicyError, Refused, StaleAnswer
from stillframe_client.streaming.handshake import Reconnect
from stillframe_client.streaming.incoming import Close
from stillframe_client.streaming.protocol import StreamProtocol
from stillframe_client.streaming.requests import RequestKind, StreamRequest
from stillframe_client.wire import pack, unpack

WRONG = (BadReply, StaleAnswer)  # what a call is told where the daemon says what none does
ACTION = {"type": "action", "actions": np.zeros((1, 2), np.float32), "timing_ms": {}}
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
        self.draining = False

    def hear(self, data: bytes) -> list[dict[str, Any]]:
        """Answer one message, but for frames that have to be computed."""
        message = dict(unpack(data))
        kind = message["type"]
        if kind == "ping":
            return [{"type": "pong"}]
        if self.draining:
            return [problem("draining", 503, message)]
        if kind == "open":
            return [self.open(message)]
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
        if kind == "close":
            del self.lives[message["session_id"]]
            return [{"type": "closed", "session_id": message["session_id"]}]
        return self.admit(life, message, data)

    def open(self, message: dict[str, Any]) -> dict[str, Any]:
        """Open or resume a session."""
        session_id = message["session_id"]
        life = self.lives.get(session_id)
        if life is not None and message.get("secret") != life.secret:
            return problem("session-exists", 409, {"session_id": session_id})
        if session_id in self.gone and "secret" in message:
            return problem("session-evicted", 410, {"session_id": session_id})
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
        """The connection is gone, and with it all that waits; what was computed is kept. One that drains has left."""
        self.waiting.clear()
        self.draining = False


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
        self.now_s = 0.0
        self.protocol = StreamProtocol("arm" if named else None, service=service, clock=lambda: self.now_s)
        self.daemon = ModelDaemon()
        self.connected = False
        self.up: deque[bytes] = deque()
        self.down: deque[bytes] = deque()
        self.frames: list[StreamRequest] = []
        self.resets: list[StreamRequest] = []
        self.given_up: set[StreamRequest] = set()
        self.possible = {"superseded"}  # what a frame may be told instead of its action
        self.told: set[str] = set()  # what the daemon has said on this connection, and the robot has heard
        self.behind: StreamRequest | None = None  # the reset or close that was sent here and is not answered

    # The robot.

    def ask(self) -> None:
        """Show a frame that is like no other."""
        self.frames.append(self.protocol.submit(RequestKind.FRAME, {"n": len(self.frames)}))

    def ask_in_haste(self) -> None:
        """Show one that may not become old."""
        self.possible.add("deadline-exceeded")
        self.frames.append(self.protocol.submit(RequestKind.FRAME, {"n": len(self.frames), "max_age_ms": 100}))

    def reset(self) -> None:
        """End the episode."""
        self.resets.append(self.protocol.submit(RequestKind.RESET))

    def give_up(self, asked: StreamRequest) -> None:
        """Lose patience with it."""
        self.given_up.add(asked)
        self.protocol.cancel(asked)

    def give_up_newest(self) -> None:
        """Lose patience."""
        for asked in [*self.frames, *self.resets][-1:]:
            self.give_up(asked)

    def give_up_a_frame(self) -> None:
        """Lose patience with the frame."""
        for asked in self.frames[-1:]:
            self.give_up(asked)

    def hurry(self) -> None:
        """Show a frame, end the episode, and lose patience with that when it is on its way."""
        for move in (self.ask, self.reset, self.send, self.give_up_newest):
            move()

    def wait(self) -> None:
        """Let time pass."""
        self.now_s += 0.06

    def ping(self) -> None:
        """Wonder whether anybody is there."""
        self.protocol.ping()

    # The network.

    def connect(self) -> None:
        """Dial."""
        if not self.connected:
            self.connected = True
            self.protocol.connection_made()
            self.down.append(pack(HELLO))

    def connect_early(self) -> None:
        """Dial while the daemon warms up; a new hello says when it is ready."""
        if not self.connected:
            self.connected = True
            self.protocol.connection_made()
            self.down.extend(pack({"type": "status", "state": state}) for state in ("loading", "warming"))
            self.down.append(pack({**HELLO, "state": "warming"}))
            self.down.extend(pack({"type": "status", "state": state}) for state in ("warming", "ready"))

    def drop(self) -> None:
        """Lose everything that is on its way."""
        if self.connected:
            self.connected = False
            self.up.clear()
            self.down.clear()
            self.told.clear()
            self.behind = None
            self.daemon.unplug()
            self.protocol.connection_lost(Close())

    def send(self) -> None:
        """Give the network what is to go out."""
        if self.connected:
            for data in self.protocol.data_to_send():
                self.check_sent(dict(unpack(data)))
                self.up.append(data)

    def upload(self) -> None:
        """One message reaches the daemon."""
        if self.connected and self.up:
            self.down.extend(pack(message) for message in self.daemon.hear(self.up.popleft()))

    def download(self) -> None:
        """One message reaches the robot."""
        if self.connected and self.down:
            message = unpack(data := self.down.popleft())
            waiting = [asked for asked in self.frames if not asked.settled]
            try:
                self.protocol.receive_data(data)
            except Reconnect:
                self.drop()
                return
            self.told.add("waiting" if message.get("state") in ("loading", "warming") else message["type"])
            if self.behind is not None and self.behind.settled:
                self.behind = None
            for asked in waiting:
                assert not asked.settled or asked.error is not None or asked.answer.late == self.is_old(asked)

    def cut_short(self) -> None:
        """The daemon hears everything, and its answers are lost."""
        for move in (self.send, *[self.upload] * 5, self.drop):
            move()

    def leave(self) -> None:
        """Follow a goaway."""
        if self.protocol.may_close:
            self.drop()

    def calm(self) -> None:
        """A while in which all that there is to say is said, and nothing is computed."""
        for _ in range(8):
            for move in (self.connect, self.send, self.upload, self.download, self.leave):
                move()
            if self.connected and not (self.up or self.down):
                return

    # The daemon.

    def compute(self) -> None:
        """Answer the frame that is due."""
        if self.connected and self.daemon.waiting:
            self.down.append(pack(self.daemon.compute()))

    def go_away(self) -> None:
        """Ask the robot to leave."""
        if self.connected and self.protocol.is_open:
            self.down.append(pack({"type": "goaway", "finish_within_s": 10}))

    def drain(self) -> None:
        """Stop: what has come is answered, what comes now is refused."""
        self.go_away()
        self.daemon.draining = self.connected

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

    # What no daemon does.

    def is_wrong(self, message: dict[str, Any], error: type[PolicyError]) -> None:
        """Hold that a message is refused, that nothing was made of it, and do as the link does."""
        settled = [asked.settled for asked in self.frames + self.resets]
        with pytest.raises(error) as caught:
            self.protocol.receive_data(pack(message))

        assert settled == [asked.settled for asked in self.frames + self.resets]
        self.protocol.fail(caught.value)
        self.drop()

    def lie(self) -> None:
        """Answer what was not asked: a frame that never was, or another session's of the very place of one that is."""
        places = [asked.position for asked in self.frames if asked.sent and asked.position is not None]
        if self.connected and self.protocol.is_open:
            mine = {"id": self.protocol.session_id, "epoch": 0, "seq": 10_000}
            if places and len(self.frames) % 2:
                mine = {"id": "leg", "epoch": places[-1][0], "seq": places[-1][1]}
            word = ("action", "superseded", "problem")[len(self.frames) // 2 % 3]
            refusal = {"code": "overloaded", "status": 503, "detail": "x"}
            self.is_wrong({**ACTION, "type": word, "session": mine, "problem": refusal}, StaleAnswer)

    def lie_of_a_reset(self) -> None:
        """Answer a reset of another session, or a close, or open the session anew."""
        if self.connected and self.protocol.is_open:
            word = ("reset", "closed", "session")[len(self.frames) % 3]
            mine = "leg" if self.behind is not None else self.protocol.session_id
            self.is_wrong({"type": word, "session_id": mine, "epoch": 7, "secret": "x", "resumed": True}, StaleAnswer)

    def be_another_server(self) -> None:
        """Speak first, and not as a daemon does."""
        if self.connected and not self.told:
            words = [{**HELLO, "protocol": 2}, {"reset_pose": [0.0]}, {"type": "session"}, {**ACTION, "session": {}}]
            self.is_wrong(words[len(self.frames) % 4], BadReply)

    # What must hold.

    def is_old(self, asked: StreamRequest) -> bool:
        """Whether it is past its max_age_ms."""
        return self.now_s - asked.asked_s > asked.fields.get("max_age_ms", np.inf) / 1000

    def check_sent(self, message: dict[str, Any]) -> None:
        """Nothing goes out before hello, behind a reset, to a daemon that leaves; no frame that is old or given up."""
        kind = message["type"]
        assert "hello" in self.told
        if kind in ("open", "ping"):
            assert kind == "ping" or "session" not in self.told
            return
        assert "session" in self.told
        assert "goaway" not in self.told
        assert self.behind is None
        if kind == "frame":
            asked = self.frames[message["n"]]
            assert asked.position == (message["epoch"], message["seq"])
            assert not any((self.is_old(asked), asked.settled, asked in self.given_up))
        else:
            self.behind = next(asked for asked in self.protocol._pending if asked.kind.value == kind)

    def check(self) -> None:
        """No frame has another's action, none was computed twice by a session, and no error is a fault of ours."""
        for n, asked in enumerate(self.frames):
            assert asked.error is not None or not asked.settled or asked.answer.actions[0, 0] == n
        for asked in self.frames + self.resets:
            assert isinstance(asked.error, WRONG) or asked.error is None or asked.error.code in self.possible
        assert len(self.daemon.computed) == len(set(self.daemon.computed))

    def settle(self) -> None:
        """Let the network be calm until no call waits."""
        for _ in range(100):
            if not self.protocol.has_waiters:
                return
            self.calm()
            self.compute()

    def finish(self) -> None:
        """Once the network is calm, everything that anybody waits for is settled."""
        self.settle()
        if self.protocol.has_waiters:  # its name is taken, by a session whose secret was lost: that one's time runs out
            self.drop()
            self.evict()
        self.settle()

        assert not self.protocol.has_waiters

    def be_closed(self) -> None:
        """Say goodbye when all is done; what is asked behind that waits for its answer."""
        self.finish()
        self.calm()
        closing = self.protocol.submit(RequestKind.CLOSE)
        self.ask()
        self.settle()

        assert closing.error is None
        assert self.frames[-1].settled

    def be_taken_over(self) -> None:
        """Another connection speaks for the session now: whatever is asked fails, and nothing is said any more."""
        self.finish()
        self.calm()
        in_use = {"code": "session-in-use", "status": 409, "detail": "x"}
        if self.protocol.is_open:
            self.is_wrong({"type": "problem", "problem": in_use, "session": {"id": self.protocol.session_id}}, Refused)
            self.possible.add("session-in-use")
            for move in (self.ask, self.reset, self.connect, self.calm, self.ask):
                move()

            assert self.frames[-1].error.code == self.resets[-1].error.code == "session-in-use"
            assert not self.protocol.has_waiters


# As often as they stand here: most of the time, things go well.
MOVES = (
    *("calm", "ask", "compute", "download") * 6,
    *("connect", "send", "upload", "reset", "wait", "ask_in_haste") * 3,
    *("drop", "give_up_newest", "give_up_a_frame", "go_away", "leave", "ping", "restart", "evict", "somebody_resets"),
    *("hurry", "cut_short") * 2,
    *("drain", "connect_early", "lie", "lie_of_a_reset", "be_another_server"),
)


@given(
    service=st.sampled_from(["lockstep", "realtime"]),
    named=st.booleans(),
    moves=st.lists(st.sampled_from(MOVES), min_size=60, max_size=150),
    end=st.sampled_from(["finish", "finish", "be_closed", "be_taken_over"]),
)
@settings(max_examples=3 * settings().max_examples)
def test_whatever_is_lost(service, named, moves, end):
    """In any order of losses, restarts, resets and lies, each frame gets its own action or a word why not."""
    exchange = Exchange(service, named=named)
    for move in moves:
        getattr(exchange, move)()
        exchange.check()
    getattr(exchange, end)()

    exchange.check()
