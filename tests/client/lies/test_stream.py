"""The streams and openpi's shape against servers that lie: every call ends in time, and in a PolicyError."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import struct

import numpy as np
import pytest

from stillframe_client import (
    AsyncPolicyStream,
    BadReply,
    PolicyError,
    PolicyStream,
    StaleAnswer,
    TimedOut,
    WebsocketClientPolicy,
)
from stillframe_client.wire import pack

PICTURE = np.zeros((2, 2, 3), np.uint8)
SHORT_S = 0.3  # for what may be tried again until the time is over
LONG_S = 20.0  # for what ends at once
GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
CARD = {
    "name": "sums",
    "family": "openvla",
    "observation": {"cameras": ["front"], "image_size": [224, 224]},
    "action": {"fields": [{"name": f"d{n}"} for n in range(7)], "gripper": "1 = open", "chunk_horizon": 2},
    "norm_stats": {"jaco": {"q01": [-0.05] * 7, "q99": [0.05] * 7}},
    "default_unnorm_key": "jaco",
}
GOODBYE = b"\x88"  # the first byte of a close frame
HELLO = {"type": "hello", "protocol": 1, "server": "liar", "state": "ready", "model": CARD, "limits": {}}
SESSION = {"type": "session", "session_id": "arm", "secret": "s", "epoch": 0, "service": "lockstep", "resumed": False}
PLACE = {"id": "arm", "epoch": 0, "seq": 0}


def upgrade(talk, *headers):
    """Become a WebSocket, as the client asks."""
    request = talk.hear()
    lines = dict(line.split(b": ", 1) for line in request.split(b"\r\n") if b": " in line)
    key = next(value for name, value in lines.items() if name.lower() == b"sec-websocket-key")
    accept = base64.b64encode(hashlib.sha1(key + GUID).digest())  # noqa: S324 -- RFC 6455
    head = [b"HTTP/1.1 101 Switching Protocols", b"Upgrade: websocket", b"Connection: Upgrade"]
    head += [b"Sec-WebSocket-Accept: " + accept, b"Sec-WebSocket-Protocol: stillframe.v1.msgpack", *headers]
    talk.say(b"\r\n".join(head) + b"\r\n\r\n")


def message(data, opcode=2):
    """One message in one frame; what is not bytes goes as msgpack."""
    data = data if isinstance(data, bytes) else pack(data)
    size = len(data)
    length = b"\x7f" + struct.pack(">Q", size)
    if size < 65536:
        length = bytes([size]) if size < 126 else b"\x7e" + struct.pack(">H", size)
    return bytes([0x80 | opcode]) + length + data


def saying(*parts):
    """A script: become a WebSocket, then send each part; between two of them something has to come."""

    def script(talk):
        upgrade(talk)
        for n, part in enumerate(parts):
            if n:
                talk.sock.recv(65536)
            talk.say(part if isinstance(part, bytes) else message(part))
        while talk.sock.recv(65536)[:1] not in (b"", GOODBYE):
            talk.say(message({"type": "closed", "session_id": "arm"}))

    return script


async def ask(url, call, timeout_s):
    async with AsyncPolicyStream(url, timeout_s=timeout_s, session="arm") as stream:
        return await call(stream)


def blocking(call):
    def run(url, timeout_s=LONG_S):
        with PolicyStream(url, timeout_s=timeout_s, session="arm") as stream:
            return call(stream)

    return run


def openpi(url, timeout_s=LONG_S):
    with WebsocketClientPolicy(url, timeout_s=timeout_s, wait_s=timeout_s, session="arm") as policy:
        return policy.infer({"image": PICTURE, "prompt": "reach"})


def act(stream):
    return stream.act(PICTURE, "reach")


ACT = {
    "act": blocking(act),
    "async act": lambda url, timeout_s=LONG_S: asyncio.run(ask(url, act, timeout_s)),
    "openpi": openpi,
}
CALLS = {
    **ACT,
    "act_with_report": blocking(lambda stream: stream.act_with_report(PICTURE, "reach", encoding="png")),
    "reset": blocking(lambda stream: stream.reset()),
    "info": blocking(lambda stream: stream.info()),
    "wait_ready": blocking(lambda stream: stream.wait_ready(SHORT_S)),
}


def reply(status, *headers, body=b""):
    return b"\r\n".join([b"HTTP/1.1 " + status, *headers, b"Content-Length: %d" % len(body), b"", body])


DOORS = {
    "nothing": b"",
    "noise": bytes(range(256)),
    "another protocol": b"220 mail.example ESMTP\r\n\r\n",
    "a TLS alert": b"\x15\x03\x01\x00\x02\x02\x46",
    "a page": reply(b"200 OK", body=b"<html>"),
    "a redirect": reply(b"307 Elsewhere", b"Location: ws://127.0.0.1:1/"),
    "a status of next year": reply(b"999 Hm"),
    "a long status": reply(b"2000 Hm"),
    "a negative length": b"HTTP/1.1 400 No\r\nContent-Length: -1\r\n\r\n{}",
    "a length of 5000 digits": b"HTTP/1.1 400 No\r\nContent-Length: " + b"9" * 5000 + b"\r\n\r\n{}",
    "a length in other digits": "HTTP/1.1 400 No\r\nContent-Length: ²\r\n\r\n{}".encode(),
    "a head of 200 KB": reply(b"400 No", b"X-A: " + b"a" * 200_000),
    "10,000 headers": reply(b"400 No", *[b"X-A: a"] * 10_000),
    "a header with a NUL": reply(b"400 No", b"X-A: \0"),
    "a header that is no ASCII": reply("400 ²".encode(), "X-A: ²".encode()),
    "a compressed problem": reply(b"503 No", b"Content-Encoding: gzip", body=b'{"code": "x"}'),
    "a problem without a code": reply(b"503 No", body=b'{"code": 7}'),
    "a problem too deep": reply(b"503 No", body=b'{"code": "x", "y": ' + b"[" * 100_000),
    "a problem of 5000 digits": reply(b"422 No", body=b'{"code": "x", "y": ' + b"9" * 5000 + b"}"),
    "no accept": reply(b"101 Switching Protocols", b"Upgrade: websocket", b"Connection: Upgrade"),
    "a wrong accept": reply(
        b"101 Switching Protocols", b"Upgrade: websocket", b"Connection: Upgrade", b"Sec-WebSocket-Accept: AAAA"
    ),
}


@pytest.mark.parametrize("lie", DOORS.values(), ids=DOORS)
def test_lies_at_the_door(liar, lie):
    """What is no upgrade is no stream, however it is not one."""
    with pytest.raises(PolicyError):
        ACT["act"](liar(lie).url, SHORT_S)


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
@pytest.mark.parametrize("lie", ["noise", "a length in other digits", "a problem too deep"])
def test_lies_at_the_door_of_every_call(liar, call, lie):
    """It is the same for all calls, and for all clients."""
    with pytest.raises(PolicyError):
        call(liar(DOORS[lie]).url, SHORT_S)


def without(name, said):
    return {key: value for key, value in said.items() if key != name}


def changed(**members):
    """A hello with a card that is another one here and there."""
    return {**HELLO, "model": {**CARD, **members}}


HELLOS = {
    "text": message(b"hello", 1),
    "no UTF-8": message(b"\xff\xfe", 1),
    "an unknown opcode": message(b"", 3),
    "a frame of half the world": b"\x82\x7f\x7f\xff\xff\xff\xff\xff\xff\xff",
    "a frame over the limit": b"\x82\x7f" + struct.pack(">Q", 2**27) + bytes(2**16),
    "reserved bits": b"\xf2\x01\x00",
    "masked": b"\x82\x81\x00\x00\x00\x00\x80",
    "a goodbye of one byte": b"\x88\x01\x03",
    "a goodbye of no code": b"\x88\x02\x00\x00",
    "nothing in it": message(b""),
    "a number": message(7),
    "a list": message([1, 2]),
    "an array": message(np.zeros(3)),
    "an extension": message(b"\xd4\x01\x00"),
    "cut short": message(pack(HELLO)[:-1]),
    "more than one": message(pack(HELLO) + b"\x00"),
    "deep lists": message(b"\x91" * 100_000),
    "a list of 4 billion": message(b"\xdd\xff\xff\xff\xff"),
    "a map of 4 billion": message(b"\xdf\xff\xff\xff\xff"),
    "text of 4 GB": message(b"\xdb\xff\xff\xff\xff"),
    "an array of 2^60": message({"__ndarray__": True, "data": b"", "dtype": "<f8", "shape": [2**30, 2**30]}),
    "a key twice": message(b"\x82\xa4type\xa5hello\xa4type\xa5hello"),
    "no type": message(without("type", HELLO)),
    "a type that is a list": message({**HELLO, "type": ["hello"]}),
    "a type that is an array": message({**HELLO, "type": np.zeros(2)}),
    "an action": message({"type": "action", "actions": np.zeros((1, 7)), "session": PLACE}),
    "another protocol": message({**HELLO, "protocol": 2}),
    "a protocol that is an array": message({**HELLO, "protocol": np.ones(2)}),
    "no state": message(without("state", HELLO)),
    "a state that is a number": message({**HELLO, "state": 7}),
    "a card that is text": message({**HELLO, "model": "sums"}),
    "a card that is an array": message({**HELLO, "model": np.zeros(3)}),
    "an empty card": message({**HELLO, "model": {}}),
    "a name that is a number": message(changed(name=7)),
    "sizes that are infinite": message(changed(observation={"cameras": ["front"], "image_size": [float("inf"), 1.0]})),
    "three sizes": message(changed(observation={"cameras": ["front"], "image_size": [1, 2, 3]})),
    "cameras that are text": message(changed(observation={"cameras": "front", "image_size": [1, 2]})),
    "fields that are numbers": message(changed(action={"fields": [1, 2], "gripper": "", "chunk_horizon": 1})),
    "a horizon that is NaN": message(changed(action={**CARD["action"], "chunk_horizon": float("nan")})),
    "statistics that are a list": message(changed(norm_stats=[1])),
    "a problem without a code": message({"type": "problem", "problem": {"status": 503}}),
    "a problem of an odd status": message({"type": "problem", "problem": {"code": "x", "status": -(2**63)}}),
    "a problem that waits for ever": message(
        {"type": "problem", "problem": {"code": "x", "status": 429, "retry_after_ms": float("inf")}}
    ),
}


@pytest.mark.parametrize("lie", HELLOS.values(), ids=HELLOS)
def test_lies_instead_of_a_hello(liar, lie):
    """Nothing that is not a daemon's hello is taken for one."""
    with pytest.raises(PolicyError):
        ACT["act"](liar(saying(lie)).url, SHORT_S)


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
@pytest.mark.parametrize("lie", ["a type that is an array", "sizes that are infinite", "a goodbye of no code"])
def test_lies_instead_of_a_hello_to_every_call(liar, call, lie):
    """It is the same for all calls, and for all clients."""
    with pytest.raises(PolicyError):
        call(liar(saying(HELLOS[lie])).url, SHORT_S)


def acting(**members):
    """An answer to the first frame that is another one here and there."""
    return {"type": "action", "actions": np.zeros((1, 7), np.float32), "session": PLACE, **members}


ANSWERS = {
    "three numbers": acting(actions=np.zeros((1, 3), np.float32)),
    "eight numbers": acting(actions=np.zeros((1, 8), np.float32)),
    "three rows of a horizon of two": acting(actions=np.zeros((3, 7), np.float32)),
    "no rows": acting(actions=np.zeros((0, 7), np.float32)),
    "one row alone": acting(actions=np.zeros(7, np.float32)),
    "truth values": acting(actions=np.zeros((1, 7), bool)),
    "text": acting(actions=[["0"] * 7]),
    "truth values in a list": acting(actions=[[True] * 7]),
    "null in a list": acting(actions=[[0.0] * 6 + [None]]),
    "an array in a list": acting(actions=[[0.0] * 6 + [np.zeros(1)]]),
    "bytes": acting(actions=bytes(28)),
    "nothing": acting(actions=None),
    "NaN": acting(actions=np.full((1, 7), np.nan, np.float32)),
    "infinity": acting(actions=np.full((1, 7), -np.inf, np.float32)),
    "1e300": acting(actions=np.full((1, 7), 1e300)),
    "1e30": acting(actions=np.full((1, 7), 1e30, np.float32)),
    "another session's": acting(session={**PLACE, "id": "leg"}),
    "another epoch's": acting(session={**PLACE, "epoch": 1}),
    "another seq's": acting(session={**PLACE, "seq": 1}),
    "no session's": acting(session=None),
    "an array's": acting(session=np.zeros(3)),
    "another model's": acting(model="other"),
}


@pytest.mark.parametrize("call", ACT.values(), ids=ACT)
@pytest.mark.parametrize("lie", ANSWERS.values(), ids=ANSWERS)
def test_lies_for_an_action(liar, call, lie):
    """What is no action, or not this frame's, is never returned."""
    with pytest.raises((BadReply, StaleAnswer)):
        call(liar(saying(HELLO, SESSION, lie)).url)


def test_an_action_that_is_one(liar):
    """The same scripts, without the lie: so they test what they mean to."""
    for call in (ACT["act"], ACT["async act"]):
        assert call(liar(saying(HELLO, SESSION, acting())).url).tolist() == [0.0] * 7


ODD = {
    "a cache that is an array": acting(cache=np.zeros(3)),
    "a cache of arrays": acting(cache={name: np.zeros(2) for name in ("mode", "frame", "reason", "reuse_ratio")}),
    "a history that is text": acting(history="none"),
    "times that are text": acting(timing_ms={"total": "soon", "queue": float("nan")}),
    "times that are an array": acting(timing_ms=np.zeros(3)),
    "a clock's word that is an array": acting(t_obs_ns=np.zeros(3)),
    "a late that is an array": acting(late=np.ones(3)),
    "a model that is a number": acting(model=7),
}


@pytest.mark.parametrize("said", ODD.values(), ids=ODD)
def test_odd_reports_cost_no_action(liar, said):
    """What stands beside the action and cannot be read is not known, and the action is taken."""
    assert ACT["act"](liar(saying(HELLO, SESSION, said)).url).shape == (7,)


def test_scaled_by_other_statistics(liar):
    """An answer by another data set's statistics than the frame named is not one to it."""
    url = liar(saying(HELLO, SESSION, acting(unnorm_key="bridge"))).url
    with PolicyStream(url, timeout_s=LONG_S, session="arm") as stream, pytest.raises(StaleAnswer, match="bridge"):
        stream.act(PICTURE, "reach", unnorm_key="jaco")


def test_held_to_the_first_answer(liar):
    """A hello without a card names nothing: then the first answer's count is every other's."""
    second = acting(actions=np.zeros((1, 3), np.float32), session={**PLACE, "seq": 1})
    url = liar(saying({**HELLO, "model": None}, SESSION, acting(), second)).url
    with PolicyStream(url, timeout_s=LONG_S, session="arm") as stream:
        assert stream.act(PICTURE, "reach").shape == (7,)
        with pytest.raises(BadReply, match="3 numbers; expected 7"):
            stream.act(PICTURE, "reach")


@pytest.mark.parametrize(
    "said", [{"epoch": 0}, {"epoch": 2}, {"epoch": -1}, {"epoch": None}, {"session_id": "leg"}], ids=str
)
def test_lies_for_a_reset(liar, said):
    """The episode that begins is this session's, and the one after the last."""
    done = {"type": "reset", "session_id": "arm", "epoch": 1}
    with PolicyStream(liar(saying(HELLO, SESSION, acting(), done)).url, timeout_s=LONG_S, session="arm") as stream:
        stream.act(PICTURE, "reach")
        assert stream.reset() == 1
    url = liar(saying(HELLO, SESSION, acting(), {**done, **said})).url
    with PolicyStream(url, timeout_s=LONG_S, session="arm") as stream:
        stream.act(PICTURE, "reach")
        with pytest.raises((StaleAnswer, BadReply)):
            stream.reset()


@pytest.mark.parametrize("at", ["upgrade", "frame", "hello", "session", "action"])
def test_a_trickle_holds_no_call(liar, at):
    """A byte now and then is not an answer, wherever the time is spent."""

    def script(talk):
        if at == "upgrade":
            talk.hear()
            talk.trickle(b"HTTP/1.1 101 " + 100 * b"S")
            return
        upgrade(talk)
        for stage, said in (("hello", HELLO), ("session", SESSION), ("action", acting())):
            if at == stage or (at == "frame" and stage == "hello"):
                talk.trickle(message(said)[:60] if at == "frame" else 30 * message(b"", 9))
            talk.say(message(said))
            talk.sock.recv(65536)

    with PolicyStream(liar(script).url, timeout_s=0.6, session="arm") as stream, pytest.raises(TimedOut):
        stream.act(PICTURE, "reach")


def test_a_path_that_has_no_stream(liar):
    """Servers say 403 for a path that they do not know: the text says what the address should be."""
    url = liar(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n").url
    words = r"no stream at '/act/v1/stream'.*such as 'ws://127\.0\.0\.1:\d+'"
    with PolicyStream(f"{url}/act", timeout_s=LONG_S) as stream, pytest.raises(PolicyError, match=words):
        stream.act(PICTURE, "reach")
    with PolicyStream(url, timeout_s=LONG_S) as stream, pytest.raises(PolicyError, match="does not let this client"):
        stream.act(PICTURE, "reach")
