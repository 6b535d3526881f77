from __future__ import annotations

import asyncio
import base64
import gc
import json
import threading
import weakref
from hashlib import sha256

import numpy as np
import pytest

from stillframe.errors import Overloaded
from stillframe.sessions.settings import SessionSettings
from stillframe.testing import policy_info, state_info
from stillframe.web.app import WebSettings
from stillframe.web.http.decode_pool import DecodePool
from stillframe.web.http.limits import Limits
from stillframe.web.middleware.auth import Authenticator, Token
from stillframe.web.middleware.rate_limit import THROTTLE_DELAY_S, RateLimiter
from stillframe.web.service import frame_parser
from stillframe.web.streaming import session_queue, stream_sessions
from stillframe_client.wire import JSON_PROTOCOL, MSGPACK, MSGPACK_PROTOCOL, encode_array

ECHO = [12.0, 16.0, 0.0, 1.0, 2.0, 2.0, 1.0]  # of the picture and "go"


@pytest.mark.parametrize(
    ("protocol", "kind"), [(MSGPACK_PROTOCOL, bytes), (JSON_PROTOCOL, str), (None, bytes), ("other", bytes)]
)
def test_hello_first(stream, play, protocol, kind):
    """The server speaks first, in the codec of the sub-protocol, which it confirms; msgpack where none is known."""

    async def story():
        async with stream(protocol=protocol) as socket:
            data = await socket.hear_data()
            return socket.accepted, data

    accepted, data = play(story())
    hello = MSGPACK.load(data) if kind is bytes else json.loads(data)

    assert isinstance(data, kind)
    assert accepted == (protocol if protocol != "other" else None)
    assert list(hello) == ["type", "protocol", "server", "state", "model", "limits"]
    assert (hello["type"], hello["protocol"], hello["state"]) == ("hello", 1, "ready")
    assert hello["model"]["observation"]["cameras"] == ["front"]
    assert hello["limits"]["max_message_bytes"] == Limits().max_body_bytes
    assert hello["server"].startswith("stillframe/")


def test_hello_has_the_models_card(desk, stream, play):
    """The model of hello is the card of /v1/models."""

    async def story():
        async with stream() as socket, desk.client() as client:
            return await socket.hear("hello"), (await client.get("/v1/models")).json()

    hello, models = play(story())

    assert hello["model"] == models["models"][0]


def test_a_session_opened_and_used(desk, stream, play, shot):
    """Open answers with id, secret and epoch; a frame is answered with its place and its clock."""

    async def story():
        async with stream() as socket:
            await socket.hear("hello")
            session = await socket.ask("open")
            action = await socket.ask("frame", session_id=session["session_id"], t_obs_ns=-5, **shot)
            return session, action

    session, action = play(story())

    assert session["type"] == "session"
    assert (session["epoch"], session["service"], session["resumed"]) == (0, "lockstep", False)
    assert session["session_id"].startswith("s-")
    assert len(session["secret"]) > 20
    assert action["type"] == "action"
    assert action["session"] == {"id": session["session_id"], "epoch": 0, "seq": 0}
    assert (action["t_obs_ns"], action["unnorm_key"], action["model"]) == (-5, "jaco", "echo")
    assert action["cache"]["frame"] == "keyframe"
    assert action["history"] == {"enabled": False, "why": "history.enabled is false"}
    assert list(action["timing_ms"]) == ["unpack", "queue", "prefill", "total"]
    assert not {"late", "replayed"} & action.keys()
    assert desk.sample("stillframe_frames_total", outcome="answered") == 1


def test_a_frame_before_open_opens(desk, stream, play, shot):
    """A frame of a session that nobody knows yet begins it; the next is its next."""

    async def story():
        async with stream() as socket:
            await socket.hear("hello")
            return [await socket.ask("frame", session_id="arm", **shot) for _ in range(2)]

    actions = play(story())

    assert [action["session"]["seq"] for action in actions] == [0, 1]
    assert desk.policy.sessions[0].opening == "first-frame"


def test_msgpack_and_json_are_answered_in_kind(stream, play, shot, json_shot, encoded):
    """On one connection: msgpack has a float32 array, JSON has rows of numbers; pictures as arrays, PNG, and base64."""

    async def story():
        async with stream() as socket:
            await socket.hear("hello")
            binary = await socket.ask("frame", session_id="arm", **shot)
            texts = []
            for image in (json_shot["image"], encoded("PNG")):
                socket.put(json.dumps({"type": "frame", "session_id": "arm", **json_shot, "image": image}))
                texts.append(await socket.hear_data())
            bad = [await socket_says(socket, data) for data in (b"\x80", "{}")]
            return binary, texts, bad

    async def socket_says(socket, data):
        socket.put(data)
        return await socket.hear_data()

    binary, texts, bad = play(story())

    assert binary["actions"].dtype == np.float32
    assert binary["actions"].tolist() == [ECHO]
    assert [json.loads(text)["actions"] for text in texts] == [[ECHO]] * 2
    assert [type(data) for data in bad] == [bytes, str]


def test_compressed_pictures_in_msgpack(desk, stream, play, picture, encoded):
    """Plain bytes are a PNG or JPEG; cameras by name are as good as the one picture."""
    png = base64.b64decode(encoded("PNG"))

    async def story():
        async with stream() as socket:
            await socket.hear("hello")
            one = await socket.ask("frame", session_id="arm", image=png, instruction="go")
            named = await socket.ask("frame", session_id="arm", images={"front": png}, instruction="go")
            return one, named

    for action in play(story()):
        assert action["actions"].tolist() == [ECHO]
    assert np.array_equal(desk.policy.seen[0].images["front"], picture)


def test_several_sessions_on_one_socket(desk, stream, play, shot):
    """Each has its own count and instruction, and a reset of one leaves the other as it is."""

    async def story():
        async with stream() as socket:
            await socket.hear("hello")
            places = []
            for session in ("left", "right", "left", "right"):
                action = await socket.ask("frame", session_id=session, **{**shot, "instruction": session})
                places.append(action["session"])
            await socket.ask("reset", session_id="left")
            for session in ("left", "right"):
                action = await socket.ask("frame", session_id=session, image=shot["image"])
                places.append(action["session"])
            return places

    places = play(story())

    assert [(place["id"], place["epoch"], place["seq"]) for place in places] == [
        ("left", 0, 0),
        ("right", 0, 0),
        ("left", 0, 1),
        ("right", 0, 1),
        ("left", 1, 0),
        ("right", 0, 2),
    ]
    assert [seen.instruction for seen in desk.policy.seen[-2:]] == ["left", "right"]


def test_frames_in_order(new_desk, sockets, play):
    """Lock-step: all that were sent at once are answered, in their order, with their own pictures."""
    desk = new_desk(settings=WebSettings(sessions=SessionSettings(waiting=7)))

    async def story():
        async with sockets(desk.app) as socket:
            await socket.hear("hello")
            for seq in range(8):
                image = np.full((8 + seq, 8, 3), seq, np.uint8)
                socket.say("frame", session_id="arm", epoch=0, seq=seq, image=image, instruction="go")
            return await socket.hear_all(8)

    actions = play(story())

    assert [action["session"]["seq"] for action in actions] == list(range(8))
    assert [action["actions"][0][0] for action in actions] == [8 + seq for seq in range(8)]


def test_too_many_in_lock_step(desk, stream, play, shot):
    """One computed, one waiting: the third is told session-busy, its place and when to come again, and not computed."""
    desk.policy.go_on.clear()

    async def story():
        async with stream() as socket:
            await socket.hear("hello")
            for seq in range(3):
                socket.say("frame", session_id="arm", epoch=0, seq=seq, t_obs_ns=seq, **shot)
            busy = await socket.hear("problem")
            desk.policy.go_on.set()
            return busy, await socket.hear_all(2)

    busy, actions = play(story())

    assert (busy["problem"]["code"], busy["problem"]["status"]) == ("session-busy", 429)
    assert busy["problem"]["retry_after_ms"] == 50
    assert busy["session"] == {"id": "arm", "epoch": 0, "seq": 2}
    assert busy["t_obs_ns"] == 2
    assert [action["session"]["seq"] for action in actions] == [0, 1]
    assert len(desk.policy.seen) == 2
    assert desk.sample("stillframe_rejected_total", code="session-busy") == 1
    assert sum(desk.sample("stillframe_frames_total", outcome=end) for end in ("answered", "rejected")) == 3


def test_a_flood_is_refused_before_it_is_decoded(stream, play, shot, monkeypatch):
    """While frames wait undecoded, more of them are refused at once: nobody unpacks what nobody will compute."""
    hold, decoded = threading.Event(), []

    def slowly(value, *rest):
        decoded.append(1)
        assert hold.wait(20)
        return read(value, *rest)

    read = frame_parser.read_picture
    monkeypatch.setattr(frame_parser, "read_picture", slowly)

    async def story():
        async with stream() as socket:
            await socket.hear("hello")
            for seq in range(10):
                socket.say("frame", session_id="arm", seq=seq, **shot)
            refused = await socket.hear_all(8)
            hold.set()
            return refused, await socket.hear_all(2)

    refused, answered = play(story())

    assert [message["problem"]["code"] for message in refused] == ["session-busy"] * 8
    assert [message["session"]["seq"] for message in refused] == list(range(2, 10))
    assert [message["session"]["seq"] for message in answered] == [0, 1]
    assert len(decoded) == 2


def test_an_instruction_is_carried_on(desk, stream, play, shot):
    """A frame without one goes on with its session's last, across a reset; the first of a session has to say it."""

    async def story():
        async with stream() as socket:
            await socket.hear("hello")
            missing = await socket.ask("frame", session_id="arm", image=shot["image"])
            await socket.ask("frame", session_id="arm", image=shot["image"], instruction="left")
            await socket.ask("frame", session_id="arm", image=shot["image"])
            await socket.ask("reset", session_id="arm")
            await socket.ask("frame", session_id="arm", image=shot["image"])
            return missing

    missing = play(story())

    assert missing["problem"]["code"] == "missing-field"
    assert missing["problem"]["errors"][0]["pointer"] == "/instruction"
    assert [seen.instruction for seen in desk.policy.seen] == ["left"] * 3


def test_a_refused_frame_changes_no_instruction(desk, stream, play, shot):
    """What was not taken says nothing: a stale frame's words, and those of somebody who does not hold the session."""

    async def story():
        async with stream() as socket, desk.client() as client:
            await socket.hear("hello")
            await socket.ask("frame", session_id="arm", seq=5, **shot)
            stale = await socket.ask("frame", session_id="arm", seq=3, image=shot["image"], instruction="stale")
            body = {"image": encode_array(shot["image"]), "instruction": "mine", "session_id": "arm"}
            other = await client.post("/v1/act", json=body)
            await socket.ask("frame", session_id="arm", image=shot["image"])
            return stale, other

    stale, other = play(story())

    assert stale["problem"]["code"] == "stale-seq"
    assert (other.status_code, other.json()["code"]) == (409, "session-in-use")
    assert [seen.instruction for seen in desk.policy.seen] == ["go", "go"]


def test_what_frames_say_beside_their_picture(desk, stream, play, shot):
    """Statistics, mode of reuse and age reach the policy; the age counts from the arrival."""

    async def story():
        async with stream() as socket:
            await socket.hear("hello")
            return await socket.ask(
                "frame", session_id="arm", unnorm_key="bridge_orig", reuse="exact", max_age_ms=5000, **shot
            )

    action = play(story())

    assert action["unnorm_key"] == "bridge_orig"
    assert action["cache"]["mode"] == "exact"
    assert 0 < desk.policy.ages_ms[0] < 5000


def test_a_repeat_gets_the_same_answer(desk, stream, play, shot):
    """Equal to the byte and under the same seq: the stored answer, marked, and nothing is computed again."""

    async def story():
        async with stream() as socket:
            await socket.hear("hello")
            return [await socket.ask("frame", session_id="arm", epoch=0, seq=7, **shot) for _ in range(2)]

    first, again = play(story())

    assert "replayed" not in first
    assert again["replayed"] is True
    assert again["session"] == first["session"] == {"id": "arm", "epoch": 0, "seq": 7}
    assert np.array_equal(again["actions"], first["actions"])
    assert len(desk.policy.seen) == 1


def test_a_repeat_of_what_is_computed_waits_with_it(new_desk, sockets, play, until, shot):
    """A repeat is no new frame: it is let in where no other would be, and both are answered from one computation."""
    desk = new_desk(settings=WebSettings(sessions=SessionSettings(waiting=0)))
    desk.policy.go_on.clear()

    async def story():
        async with sockets(desk.app) as socket:
            await socket.hear("hello")
            socket.say("frame", session_id="arm", seq=0, **shot)
            await until(desk.policy.started.is_set)
            socket.say("frame", session_id="arm", seq=0, **shot)
            busy = await socket.ask("frame", session_id="arm", seq=1, **shot)
            desk.policy.go_on.set()
            return busy, await socket.hear_all(2)

    busy, both = play(story())

    assert busy["problem"]["code"] == "session-busy"
    assert sorted("replayed" in action for action in both) == [False, True]
    assert len(desk.policy.seen) == 1


@pytest.mark.parametrize(
    ("place", "code", "status"),
    [({"seq": 2}, "stale-seq", 409), ({"seq": 4}, "seq-conflict", 409), ({"epoch": 3, "seq": 9}, "stale-epoch", 409)],
)
def test_out_of_place(stream, play, shot, place, code, status):
    """A lower seq, the same seq with another picture, another epoch: each is a problem that names the frame."""

    async def story():
        async with stream() as socket:
            await socket.hear("hello")
            await socket.ask("frame", session_id="arm", seq=4, **shot)
            wrong = await socket.ask("frame", session_id="arm", **place, **{**shot, "instruction": "another"})
            after = await socket.ask("frame", session_id="arm", seq=10, **shot)
            return wrong, after

    wrong, after = play(story())

    assert (wrong["type"], wrong["problem"]["code"], wrong["problem"]["status"]) == ("problem", code, status)
    assert wrong["session"] == {"id": "arm", **place}
    assert after["session"]["seq"] == 10


def test_a_problem_is_a_problem_document(stream, play):
    """It has the members that HTTP's problems have, and the place and clock of its frame beside it."""

    async def story():
        async with stream(headers=[("x-request-id", "abc")]) as socket:
            await socket.hear("hello")
            return await socket.ask("frame", session_id="arm", seq=3, t_obs_ns=9, image=b"no picture", instruction="go")

    message = play(story())
    problem = message["problem"]

    assert {"type", "title", "status", "detail", "instance", "code", "request_id", "errors"} == set(problem)
    assert (problem["code"], problem["status"], problem["request_id"]) == ("image-invalid", 422, "abc")
    assert (problem["type"], problem["instance"]) == ("/problems/image-invalid", "/v1/stream")
    assert problem["errors"][0]["pointer"] == "/image"
    assert message["session"] == {"id": "arm", "seq": 3}
    assert message["t_obs_ns"] == 9


def test_reset_begins_the_next_epoch(stream, play, shot):
    """Its answer names the epoch; the next frame counts from 0 and is whole; a named epoch is done once."""

    async def story():
        async with stream() as socket:
            await socket.hear("hello")
            await socket.ask("frame", session_id="arm", **shot)
            resets = [await socket.ask("reset", session_id="arm"), await socket.ask("reset", session_id="arm", epoch=2)]
            resets.append(await socket.ask("reset", session_id="arm", epoch=2))
            return resets, await socket.ask("frame", session_id="arm", epoch=2, **shot)

    resets, action = play(story())

    assert resets[0] == {"type": "reset", "session_id": "arm", "epoch": 1}
    assert [reset["epoch"] for reset in resets] == [1, 2, 2]
    assert action["session"] == {"id": "arm", "epoch": 2, "seq": 0}
    assert action["cache"]["reason"] == "reset"


def test_a_reset_during_a_step(desk, stream, play, until, shot):
    """The frame that is computed and the one that waits are answered in their own epoch; the next is in the new one."""
    desk.policy.go_on.clear()

    async def story():
        async with stream() as socket:
            await socket.hear("hello")
            for seq in range(2):
                socket.say("frame", session_id="arm", seq=seq, **shot)
            await until(desk.policy.started.is_set)
            reset = await socket.ask("reset", session_id="arm")
            desk.policy.go_on.set()
            before = await socket.hear_all(2)
            return reset, before, await socket.ask("frame", session_id="arm", **shot)

    reset, before, after = play(story())

    assert (reset["type"], reset["epoch"]) == ("reset", 1)
    assert [(action["session"]["epoch"], action["session"]["seq"]) for action in before] == [(0, 0), (0, 1)]
    assert (after["session"]["epoch"], after["session"]["seq"]) == (1, 0)


def test_frames_sent_before_a_reset_belong_before_it(new_desk, sockets, play, until, shot, monkeypatch):
    """Frames without an epoch, a reset and another frame in one go: the reset waits until those before are unpacked."""
    desk = new_desk(settings=WebSettings(sessions=SessionSettings(waiting=3)))
    hold, waiting = threading.Event(), []
    read, settled = frame_parser.read_picture, session_queue.SessionQueue.flushed

    def held(value, *rest):
        assert hold.wait(20)
        return read(value, *rest)

    async def noticed(queue):
        waiting.append(queue)
        await settled(queue)

    monkeypatch.setattr(frame_parser, "read_picture", held)
    monkeypatch.setattr(session_queue.SessionQueue, "flushed", noticed)

    async def story():
        async with sockets(desk.app) as socket:
            await socket.hear("hello")
            for _ in range(3):
                socket.say("frame", session_id="arm", **shot)
            socket.say("reset", session_id="arm")
            socket.say("frame", session_id="arm", **shot)
            await until(lambda: waiting or socket.unheard())
            hold.set()
            return await socket.hear_all(5)

    messages = play(story())
    places = [(session.epoch, session.seq) for session in desk.policy.sessions]

    assert sorted(message["type"] for message in messages) == ["action"] * 4 + ["reset"]
    assert places == [(0, 0), (0, 1), (0, 2), (1, 0)]


def test_a_close_during_a_step(desk, stream, play, until, shot):
    """The computed frame is answered, the waiting one is told that its session was closed; what it held is freed."""
    desk.policy.go_on.clear()

    async def story():
        async with stream() as socket:
            await socket.hear("hello")
            for seq in range(2):
                socket.say("frame", session_id="arm", seq=seq, **shot)
            await until(lambda: len(desk.policy.sessions) == 2)
            closed = await socket.ask("close", session_id="arm")
            gone = await socket.hear("problem")
            desk.policy.go_on.set()
            return closed, gone, await socket.hear("action")

    closed, gone, action = play(story())

    assert closed == {"type": "closed", "session_id": "arm"}
    assert (gone["problem"]["code"], gone["session"]["seq"]) == ("session-closed", 1)
    assert action["session"]["seq"] == 0
    assert desk.policy.forgotten == ["arm"]
    assert len(desk.policy.seen) == 1


def test_frames_that_wait_undecoded_when_their_session_is_closed(new_desk, sockets, play, shot, monkeypatch):
    """Each is answered: none is forgotten in a line that nobody looks at any more."""
    desk = new_desk(settings=WebSettings(sessions=SessionSettings(waiting=3)))
    hold, admit = threading.Event(), threading.Event()
    read = frame_parser.read_picture

    def slowly(value, *rest):
        admit.set()
        assert hold.wait(20)
        return read(value, *rest)

    monkeypatch.setattr(frame_parser, "read_picture", slowly)

    async def story():
        async with sockets(desk.app) as socket:
            await socket.hear("hello")
            for seq in range(3):
                socket.say("frame", session_id="arm", seq=seq, **shot)
            socket.say("close", session_id="arm")
            closed = await socket.hear("closed")
            hold.set()
            return closed, await socket.hear_all(3)

    _, answers = play(story())

    assert [answer["problem"]["code"] for answer in answers] == ["session-closed"] * 3
    assert sorted(answer["session"]["seq"] for answer in answers) == [0, 1, 2]


def test_what_waits_for_the_device_counts(desk, stream, play, until, shot, monkeypatch):
    """In lock-step a frame too many is refused before it is decoded, though the line to the decoder is empty."""
    decoded, read = [], frame_parser.read_picture
    monkeypatch.setattr(frame_parser, "read_picture", lambda *args: decoded.append(1) or read(*args))
    desk.policy.go_on.clear()

    async def story():
        async with stream() as socket:
            await socket.hear("hello")
            for seq in (0, 1):
                socket.say("frame", session_id="arm", seq=seq, **shot)
                await until(lambda seq=seq: len(desk.policy.sessions) > seq)
            refused = await socket.ask("frame", session_id="arm", seq=2, **shot)
            desk.policy.go_on.set()
            return refused, await socket.hear_all(2)

    refused, answered = play(story())

    assert refused["problem"]["code"] == "session-busy"
    assert [message["type"] for message in answered] == ["action", "action"]
    assert len(decoded) == 2


def test_a_streams_sessions_are_its_callers(new_desk, sockets, play, shot):
    """Opened or just used, no other caller finds, resets or closes them; over HTTP they are the same."""
    tokens = [Token(name, sha256(name.encode()).hexdigest(), frozenset({"act"})) for name in ("ann", "bob")]
    desk = new_desk(settings=WebSettings(authenticator=Authenticator(tokens)))
    ann, bob = ([("authorization", f"Bearer {name}")] for name in ("ann", "bob"))

    async def story():
        async with sockets(desk.app, headers=ann) as hers, sockets(desk.app, headers=bob) as his:
            for socket in (hers, his):
                await socket.hear("hello")
            await hers.ask("open", session_id="opened")
            await hers.ask("frame", session_id="used", **shot)
            told = [await his.ask(kind, session_id=name) for kind in ("reset", "close") for name in ("opened", "used")]
            own = [await his.ask("frame", session_id=name, **shot) for name in ("opened", "used")]
        async with desk.client() as http:
            seen = [(await http.get("/v1/sessions", headers=dict(who))).json()["sessions"] for who in (ann, bob)]
        return [message["problem"]["code"] for message in told], own, seen

    codes, own, seen = play(story())

    assert codes == ["unknown-session"] * 4
    assert [answer["cache"]["reason"] for answer in own] == ["first-frame"] * 2
    assert [[card["id"] for card in cards] for cards in seen] == [["opened", "used"]] * 2
    assert [[card["seq"] for card in cards] for cards in seen] == [[None, 0], [0, 0]]


def test_what_was_opened_on_purpose_is_not_opened_again(stream, play, shot, monkeypatch):
    """Its client knows a secret that would not be the next one's: it is told the end; so many are remembered."""
    monkeypatch.setattr(stream_sessions, "MAX_OPENED", 2)

    async def story():
        async with stream() as socket:
            await socket.hear("hello")
            for name in "abc":
                await socket.ask("open", session_id=name)
            for name in "abc":
                await socket.ask("close", session_id=name)
            return [await socket.ask("frame", session_id=name, **shot) for name in "cba"]

    told = play(story())

    assert [message["type"] for message in told] == ["problem", "problem", "action"]
    assert [message["problem"]["code"] for message in told[:2]] == ["session-closed"] * 2


@pytest.mark.parametrize("failing", [False, True])
def test_a_frame_is_answered_as_it_was_sent(desk, stream, play, until, json_shot, failing):
    """A message of the other codec that comes meanwhile changes nothing of that."""
    desk.policy.go_on.clear()
    desk.policy.error = Overloaded("overloaded", "Full.") if failing else None
    desk.policy.actions = np.full((1, 7), 1 / 3)

    async def story():
        async with stream() as socket:
            await socket.hear("hello")
            socket.put(json.dumps({"type": "frame", "session_id": "arm", **json_shot}))
            await until(desk.policy.started.is_set)
            socket.say("ping")
            pong = await socket.hear_data()
            desk.policy.go_on.set()
            return pong, await socket.hear_data()

    pong, answer = play(story())

    assert isinstance(pong, bytes)
    assert isinstance(answer, str)
    assert json.loads(answer)["type"] == ("problem" if failing else "action")
    assert failing or json.loads(answer)["actions"] == [[1 / 3] * 7]  # to the last bit, as JSON can


def test_closed_means_closed(stream, play, shot):
    """A session with an id of ours is gone after its close; a client's own id begins anew, with another secret."""

    async def story():
        async with stream() as socket:
            await socket.hear("hello")
            ours, own = await socket.ask("open"), await socket.ask("open", session_id="arm")
            for session in (ours, own):
                await socket.ask("close", session_id=session["session_id"])
            gone = await socket.ask("frame", session_id=ours["session_id"], **shot)
            again = await socket.ask("close", session_id="arm")
            anew = await socket.ask("open", session_id="arm")
            return gone, again, own, anew

    gone, again, own, anew = play(story())

    assert (gone["problem"]["code"], gone["problem"]["status"]) == ("session-closed", 410)
    assert again["problem"]["code"] == "session-closed"
    assert anew["secret"] != own["secret"]


def test_ping(stream, play):
    """A pong has the members of its ping, in its codec."""

    async def story():
        async with stream() as socket:
            await socket.hear("hello")
            binary = await socket.ask("ping", t=1.5, any={"deep": [1, b"x"]}, array=np.arange(3))
            socket.put('{"type":"ping","words":"ü","n":7}')
            return binary, await socket.hear_data()

    binary, text = play(story())

    assert binary["type"] == "pong"
    assert (binary["t"], binary["any"]) == (1.5, {"deep": [1, b"x"]})
    assert binary["array"].tolist() == [0, 1, 2]
    assert text == '{"type":"pong","words":"ü","n":7}'


@pytest.mark.parametrize("text", ['{"type":"ping","n":1e999}', '{"type":"ping","s":"\\ud800"}'])
def test_a_ping_that_cannot_be_repeated(stream, play, text):
    """JSON's infinities and half surrogates have no form on the way back: a problem, and the conversation goes on."""

    async def story():
        async with stream() as socket:
            await socket.hear("hello")
            socket.put(text)
            return await socket.hear(), await socket.ask("ping")

    problem, pong = play(story())

    assert problem["problem"]["code"] == "bad-field"
    assert pong == {"type": "pong"}


@pytest.mark.parametrize(
    "spoilt",
    [{"session_id": "\ud800"}, {"session_id": 7}, {"seq": -1}, {"seq": 1.5}, {"epoch": True}, {"t_obs_ns": 10**30}],
)
def test_a_place_that_makes_no_sense(stream, play, json_shot, spoilt):
    """It is a problem that does not repeat it, with what did make sense; the conversation goes on."""

    async def story():
        async with stream(protocol=JSON_PROTOCOL) as socket:
            await socket.hear("hello")
            socket.put(json.dumps({"type": "frame", "session_id": "arm", "seq": 3, **json_shot, **spoilt}))
            return await socket.hear("problem"), await socket.ask("ping")

    message, pong = play(story())
    said = message.get("session", {})

    assert message["problem"]["code"] in ("bad-field", "session-id-invalid")
    assert not any(said.get(name, message.get(name)) == value for name, value in spoilt.items())
    assert pong["type"] == "pong"


def test_a_frame_without_a_session(stream, play, shot):
    """The stream has no stateless frames: it says where they go."""

    async def story():
        async with stream() as socket:
            await socket.hear("hello")
            return await socket.ask("frame", **shot)

    problem = play(story())["problem"]

    assert problem["code"] == "missing-field"
    assert problem["errors"][0]["pointer"] == "/session_id"
    assert "POST /v1/act" in problem["detail"]


@pytest.mark.parametrize("poison", [np.nan, np.inf])
def test_a_poisoned_action(desk, stream, play, shot, poison):
    """NaN or infinity is a problem that names the frame, never an action."""
    desk.policy.actions = np.array([[0, 0, 0, 0, 0, 0, poison]])

    async def story():
        async with stream() as socket:
            await socket.hear("hello")
            return await socket.ask("frame", session_id="arm", seq=4, **shot)

    message = play(story())

    assert (message["type"], message["problem"]["code"]) == ("problem", "non-finite-action")
    assert message["session"] == {"id": "arm", "seq": 4}
    assert desk.sample("stillframe_frames_total", outcome="failed") == 1


def test_a_frame_that_fails_leaves_the_others(desk, stream, play, shot):
    """What the policy refuses one frame with is that frame's answer; its session and others go on."""
    submit = desk.policy.submit

    def submit_some(observation, max_age_ms, session=None, *, share=""):  # noqa: ARG001
        if observation.instruction == "fail":
            raise Overloaded("overloaded", "Full.", retry_after_s=1)
        return submit(observation, max_age_ms, session)

    step = desk.policy.step

    def step_some(observation, session):
        if observation.instruction == "break":
            raise Overloaded("out-of-memory", "No memory for this frame.", retry_after_s=1)
        return step(observation, session)

    desk.policy.submit, desk.policy.step = submit_some, step_some

    async def story():
        async with stream() as socket:
            await socket.hear("hello")
            return [
                await socket.ask("frame", session_id=session, **{**shot, "instruction": words})
                for words in ("go", "fail", "go", "break", "go")
                for session in (("left", "right") if words == "go" else ("left",))
            ]

    codes = [answer.get("problem", answer).get("code", answer["type"]) for answer in play(story())]

    assert codes == ["action"] * 2 + ["overloaded"] + ["action"] * 2 + ["out-of-memory"] + ["action"] * 2


def test_too_old_frames_are_told_so(desk, stream, play, shot):
    """A frame that waits longer than it may is answered with deadline-exceeded, and its place is free again."""
    desk.policy.go_on.clear()

    async def story():
        async with stream() as socket:
            await socket.hear("hello")
            return await socket.ask("frame", session_id="arm", seq=0, max_age_ms=0.001, **shot)

    message = play(story())

    assert message["problem"]["code"] == "deadline-exceeded"
    assert message["session"]["seq"] == 0
    assert desk.policy.seen == []


def test_a_late_action_is_marked(desk, stream, play, shot):
    """It is given, and says that it is late."""
    step = desk.policy.step

    def dawdle(observation, session):
        asyncio.run(asyncio.sleep(desk.policy.ages_ms[0] / 1000 + 0.02))
        return step(observation, session)

    desk.policy.step = dawdle

    async def story():
        async with stream() as socket:
            await socket.hear("hello")
            return await socket.ask("frame", session_id="arm", max_age_ms=300, **shot)

    assert play(story())["late"] is True
    assert desk.sample("stillframe_frames_total", outcome="late") == 1


def test_more_than_the_rate(new_desk, sockets, play, shot, monkeypatch):
    """Whoever asks too often is told 429 with the frame's place, and not read for a while; each session for itself."""
    desk = new_desk(settings=WebSettings(frame_limiter=RateLimiter(1.0, burst_s=2.0, clock=lambda: 0.0)))
    rests, sleep = [], asyncio.sleep

    async def rest(delay_s, *rest):
        rests.append(delay_s)
        await sleep(0, *rest)

    monkeypatch.setattr(asyncio, "sleep", rest)

    async def story():
        async with sockets(desk.app) as socket:
            await socket.hear("hello")
            left = [await socket.ask("frame", session_id="left", seq=seq, **shot) for seq in range(3)]
            return left, await socket.ask("frame", session_id="right", **shot)

    left, right = play(story())

    assert [answer["type"] for answer in left] == ["action", "action", "problem"]
    assert (left[2]["problem"]["code"], left[2]["session"]["seq"]) == ("rate-limited", 2)
    assert left[2]["problem"]["retry_after_ms"] == 1000
    assert rests.count(THROTTLE_DELAY_S) == 1
    assert right["type"] == "action"


def test_a_burst_leaves_the_loop_to_others(stream, play):
    """Messages that all came at once are read one by one: other connections have their turn in between."""

    async def story():
        async with stream() as flood, stream() as other:
            await flood.hear("hello"), await other.hear("hello")
            for _ in range(300):
                flood.say("ping")
            await other.ask("ping")
            return flood.unheard()

    assert play(story()) < 300


def test_ended_sessions_leave_nothing_behind(new_desk, sockets, play, shot, monkeypatch):
    """A connection that names session after session remembers those that live, not those that were closed elsewhere."""
    made = []

    class Watched(session_queue.SessionQueue):
        def __init__(self, *args):
            super().__init__(*args)
            made.append(weakref.ref(self))

    monkeypatch.setattr(stream_sessions, "SessionQueue", Watched)
    desk = new_desk()

    async def story():
        async with sockets(desk.app) as socket, desk.client() as client:
            await socket.hear("hello")
            for episode in range(10):
                await socket.ask("frame", session_id=f"episode {episode}", **shot)
                await client.delete(f"/v1/sessions/episode {episode}")
            await socket.ask("ping")
            gc.collect()
            return [queue() is not None for queue in made].count(True)

    assert play(story()) <= 1
    assert len(made) == 10


@pytest.mark.parametrize("path", ["/v1/stream", "/"])
def test_streams_wait_for_the_unpacking(desk, sockets, play, shot, path, monkeypatch):
    """Where posted frames would be refused for want of a thread, those of streams wait for one."""

    async def full(*_):
        raise Overloaded("overloaded", "Too many frames are being unpacked.")

    monkeypatch.setattr(DecodePool, "run", full)

    async def story():
        async with sockets(desk.app, path) as socket:
            await socket.hear_data()
            socket.say("frame", session_id="arm", prompt="go", **shot)
            return await socket.hear_data()

    assert "actions" in MSGPACK.load(play(story()))


@pytest.mark.parametrize("protocol", [MSGPACK_PROTOCOL, JSON_PROTOCOL])
@pytest.mark.parametrize("state", [[0.25, -1 / 3], np.array([0.25, -1 / 3]), {"y": -1 / 3, "x": 0.25}], ids=str)
def test_the_robots_state(new_desk, sockets, play, shot, json_shot, protocol, state):
    """In order or by name, in either codec, to the bit; one that is wrong is a problem with the frame's position."""
    desk = new_desk(info=policy_info(state=state_info("x", "y")))
    said = {"session_id": "arm", **(shot if protocol == MSGPACK_PROTOCOL else json_shot)}

    async def story():
        async with sockets(desk.app, protocol=protocol) as socket:
            await socket.hear("hello")
            done = await socket.ask("frame", **said, seq=0, state=state)
            return done, await socket.ask("frame", **said, seq=1, state=[1.0])

    done, wrong = play(story())

    assert done["type"] == "action"
    assert desk.policy.seen[-1].state.tolist() == [0.25, -1 / 3]
    assert (wrong["problem"]["code"], wrong["session"]["seq"]) == ("wrong-state", 1)
    assert wrong["problem"]["errors"][0]["pointer"] == "/state"
