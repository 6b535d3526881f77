"""How WebSockets come in and how they end: loading, limits, drain, failures, nonsense, clients that never read."""

from __future__ import annotations

import asyncio
import hashlib
import json
import threading

import msgpack
import numpy as np
import pytest

from stillframe.web.app import WebSettings
from stillframe.web.http.limits import Limits
from stillframe.web.middleware.auth import Authenticator, Token
from stillframe.web.service import frame_parser
from stillframe.web.streaming import native, openpi
from stillframe_client.wire import FATAL, JSON_PROTOCOL, RESTART, encode_array, pack

PATHS = ["/v1/stream", "/", "/roboarena"]


@pytest.fixture
def hurried(monkeypatch):
    """Say the daemon's state again without much ado."""
    monkeypatch.setattr(native, "STATUS_EVERY_S", native.POLL_S)


@pytest.mark.usefixtures("hurried")
def test_status_until_it_is_ready(new_desk, sockets, play):
    """While the policy loads, warms up or is stuck, the client hears so, again and again; then hello."""
    desk = new_desk(loaded=False)
    desk.policy.ready = False

    async def story():
        async with sockets(desk.app) as socket:
            heard = [await socket.hear("status") for _ in range(2)]
            desk.lifecycle.serve(desk.policy)
            while heard[-1]["state"] == "loading":
                heard.append(await socket.hear("status"))
            desk.policy.ready, desk.policy.busy_s = True, 1e6
            while heard[-1]["state"] == "warming":
                heard.append(await socket.hear("status"))
            desk.policy.busy_s = 0.0
            while (message := await socket.hear())["type"] == "status":
                heard.append(message)
            return heard, message

    heard, hello = play(story())

    assert [message["state"] for message in heard[:2]] == ["loading"] * 2
    assert sorted({message["state"] for message in heard}) == ["loading", "stuck", "warming"]
    assert (hello["type"], hello["state"]) == ("hello", "ready")


def test_a_new_state_is_told_at_once(new_desk, sockets, play, monkeypatch):
    """Nobody waits a whole interval for hello."""
    monkeypatch.setattr(native, "STATUS_EVERY_S", 3600.0)
    desk = new_desk(loaded=False)

    async def story():
        async with sockets(desk.app, protocol=JSON_PROTOCOL) as socket:
            await socket.hear("status")
            desk.lifecycle.serve(desk.policy)
            await socket.hear("hello")

    play(story())


@pytest.mark.usefixtures("hurried")
def test_open_connections_are_told(desk, stream, play):
    """In the status and in the metrics, as long as they are open."""

    async def story():
        async with desk.client() as http:
            async with stream() as socket:
                await socket.hear("hello")
                counts = [(await http.get("/v1/status")).json()["connections"]]
                scraped = (await http.get("/metrics")).text
            counts.append((await http.get("/v1/status")).json()["connections"])
        return counts, scraped

    counts, scraped = play(story())

    assert counts == [1, 0]
    assert "stillframe_connections 1.0" in scraped


def test_what_is_said_before_hello_waits(new_desk, sockets, play, shot):
    """A frame that was sent while the policy loaded is answered after hello."""
    desk = new_desk(loaded=False)

    async def story():
        async with sockets(desk.app) as socket:
            await socket.hear("status")
            socket.say("frame", session_id="arm", **shot)
            desk.lifecycle.serve(desk.policy)
            while (message := await socket.hear())["type"] == "status":
                pass
            return message, await socket.hear()

    hello, action = play(story())

    assert (hello["type"], action["type"]) == ("hello", "action")


def test_frames_while_the_device_is_stuck(desk, stream, play, shot):
    """A policy that gets stuck after hello refuses frames with the code of its state, and takes them again later."""

    async def story():
        async with stream() as socket:
            await socket.hear("hello")
            desk.policy.busy_s = 1e6
            refused = [await socket.ask("frame", session_id="arm", seq=0, **shot), await socket.ask("open")]
            desk.policy.busy_s = 0.0
            return refused, await socket.ask("frame", session_id="arm", seq=0, **shot)

    refused, action = play(story())

    assert [message["problem"]["code"] for message in refused] == ["stuck", "stuck"]
    assert action["type"] == "action"


@pytest.mark.parametrize("path", PATHS)
def test_stopped_while_it_loads(new_desk, sockets, play, path, monkeypatch):
    """A daemon that is told to stop before it has a policy lets its connections go, and nothing fails."""
    for module in (native, openpi):
        monkeypatch.setattr(module, "POLL_S", 1e-6)  # whoever looks sees the drain before he is told of it
    desk = new_desk(loaded=False)

    async def story():
        async with sockets(desk.app, path) as socket:
            if path == "/v1/stream":
                await socket.hear("status")
            desk.lifecycle.drain()
            if path == "/v1/stream":
                await socket.hear("goaway")
            return await socket.hear_close()

    assert play(story()) == RESTART


def test_stopped_while_it_warms_up(desk, stream, play, monkeypatch):
    """A daemon that takes frames no more says no hello, though its policy is there."""
    monkeypatch.setattr(native, "POLL_S", 1e-6)
    desk.policy.ready = False

    async def story():
        async with stream() as socket:
            await socket.hear("status")
            desk.lifecycle.drain()
            await socket.hear("goaway")
            return await socket.hear_close()

    assert play(story()) == RESTART


@pytest.mark.parametrize("path", PATHS)
def test_gone_while_it_loads(new_desk, sockets, play, path):
    """A client that leaves while the policy loads leaves nothing behind."""
    desk = new_desk(loaded=False)

    async def story():
        async with sockets(desk.app, path) as socket:
            socket.drop()
            await socket.talk

    play(story())


def test_drain(desk, stream, play, until, shot):
    """Goaway with the time; what is computed or waits is answered; what comes after is refused; then 1012."""
    desk.policy.go_on.clear()

    async def story():
        async with stream() as socket, stream() as idle:
            await socket.hear("hello"), await idle.hear("hello")
            for seq in range(2):
                socket.say("frame", session_id="arm", seq=seq, **shot)
            await until(lambda: len(desk.policy.sessions) == 2)
            desk.lifecycle.drain()
            goaway = await socket.hear("goaway")
            late = [await socket.ask("frame", session_id="arm", seq=2, **shot), await socket.ask("open")]
            desk.policy.go_on.set()
            answers = await socket.hear_all(2)
            assert await socket.hear_close() == RESTART
            await idle.hear("goaway")
            return goaway, late, answers, await idle.hear_close()

    goaway, late, answers, code = play(story())

    assert goaway == {"type": "goaway", "finish_within_s": 10.0}
    assert [message["problem"]["code"] for message in late] == ["draining"] * 2
    assert (late[0]["session"], late[0]["problem"]["retry_after_ms"]) == ({"id": "arm", "seq": 2}, 10_000)
    assert [(answer["type"], answer["session"]["seq"]) for answer in answers] == [("action", 0), ("action", 1)]
    assert code == RESTART


def test_a_frame_that_was_let_in_before_the_drain(desk, stream, play, until, shot, monkeypatch):
    """One that is still unpacked when the drain begins is computed and answered, over HTTP as on a stream."""
    hold, admit, read = threading.Event(), [], frame_parser.read_picture

    def held(value, *rest):
        admit.append(1)
        assert hold.wait(20)
        return read(value, *rest)

    monkeypatch.setattr(frame_parser, "read_picture", held)

    async def story():
        async with stream() as socket, desk.client() as client:
            await socket.hear("hello")
            body = {**shot, "image": encode_array(shot["image"])}
            posted = asyncio.create_task(client.post("/v1/act", json=body))
            socket.say("frame", session_id="arm", seq=0, **shot)
            await until(lambda: len(admit) == 2)
            desk.lifecycle.drain()
            await socket.hear("goaway")
            hold.set()
            action = await socket.hear()
            return action, await posted, await socket.hear_close()

    action, posted, code = play(story())

    assert action["type"] == "action"
    assert posted.status_code == 200
    assert code == RESTART


def test_what_is_not_done_in_time(new_desk, sockets, play, until, shot):
    """A frame that takes longer than the drain may is cut off with the connection, which ends all the same."""
    desk = new_desk(settings=WebSettings(drain_s=0.05))
    desk.policy.go_on.clear()

    async def story():
        async with sockets(desk.app) as socket:
            await socket.hear("hello")
            socket.say("frame", session_id="arm", seq=0, **shot)
            await until(desk.policy.started.is_set)
            desk.lifecycle.drain()
            await socket.hear("goaway")
            return await socket.hear_close()

    assert play(story()) == RESTART
    desk.policy.go_on.set()


@pytest.mark.parametrize("path", PATHS)
def test_nobody_comes_in_while_it_drains(desk, sockets, play, refused, path):
    """The upgrade is answered with the problem instead: whoever comes goes elsewhere at once."""
    desk.lifecycle.drain()

    async def story():
        with pytest.raises(refused) as caught:
            await sockets(desk.app, path).__aenter__()
        return caught.value

    refusal = play(story())

    assert (refusal.status, refusal.problem["code"]) == (503, "draining")
    assert refusal.headers["retry-after"] == "10"


@pytest.mark.parametrize("path", PATHS)
def test_too_many_connections(new_desk, sockets, play, refused, path):
    """Beyond the limit the upgrade is answered with a problem and when to come again; one that leaves makes room."""
    desk = new_desk(Limits(max_streams=2))

    async def story():
        async with sockets(desk.app, path), sockets(desk.app) as first:
            with pytest.raises(refused) as caught:
                await sockets(desk.app, path).__aenter__()
            connections = (await desk.client().get("/metrics")).text
            first.drop()
            await first.talk
            async with sockets(desk.app, path):
                return caught.value, connections

    refusal, metrics = play(story())

    assert (refusal.status, refusal.problem["code"]) == (503, "overloaded")
    assert refusal.headers["retry-after"] == "5"
    assert refusal.headers["content-type"] == "application/problem+json"
    assert "stillframe_connections 2.0" in metrics


@pytest.mark.parametrize("path", PATHS)
def test_who_may_not_come_in(new_desk, sockets, play, refused, path):
    """Without a token, or with one that may not act: 401 and 403 before the upgrade."""
    digest = hashlib.sha256(b"reader").hexdigest()
    desk = new_desk(settings=WebSettings(authenticator=Authenticator([Token("reader", digest, frozenset())])))

    async def story():
        refusals = []
        for headers in ([], [("authorization", "Api-Key reader")]):
            with pytest.raises(refused) as caught:
                await sockets(desk.app, path, headers=headers).__aenter__()
            refusals.append((caught.value.status, caught.value.problem["code"]))
        return refusals

    assert play(story()) == [(401, "unauthorized"), (403, "forbidden")]


@pytest.mark.parametrize("path", PATHS)
def test_what_nobody_foresaw(desk, sockets, play, shot, path, caplog):
    """It ends the one connection with 1011 and no word of its cause, and is logged with its story; others go on."""

    async def broken(*_, **__):
        raise ZeroDivisionError("a secret of ours")

    async def story():
        async with sockets(desk.app, path) as socket, sockets(desk.app) as other:
            await other.hear("hello")
            await socket.hear_data()
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr("stillframe.web.service.inference.InferenceService.infer", broken)
                socket.put(pack({"type": "frame", "session_id": "arm", "prompt": "go", **shot}))
                code = await socket.hear_close()
            action = await other.ask("frame", session_id="other", **shot)
            return code, socket.reason, action

    code, reason, action = play(story(), logs=1)

    assert code == FATAL
    assert "secret" not in reason
    assert action["type"] == "action"
    assert "ZeroDivisionError: a secret of ours" in caplog.text
    assert desk.sample("stillframe_frames_total", outcome="failed") == 1


def test_a_failure_that_nobody_hears_of(desk, stream, play, shot):
    """A client that is gone by the time that its connection fails makes no second failure of it."""

    async def story():
        async with stream() as socket:
            await socket.hear("hello")

            async def broken(*_, **__):
                socket.drop()
                raise ZeroDivisionError

            with pytest.MonkeyPatch.context() as patch:
                patch.setattr("stillframe.web.service.inference.InferenceService.infer", broken)
                socket.say("frame", session_id="arm", **shot)
                await socket.talk

    play(story(), logs=1)

    assert desk.sample("stillframe_frames_total", outcome="failed") == 1


def test_its_sessions_outlive_a_failure(stream, play, shot):
    """A session whose connection failed can be resumed like any other whose connection dropped."""

    async def broken(*_, **__):
        raise ZeroDivisionError

    async def story():
        async with stream() as socket:
            await socket.hear("hello")
            session = await socket.ask("open")
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr("stillframe.web.service.inference.InferenceService.infer", broken)
                socket.say("frame", session_id=session["session_id"], **shot)
                await socket.hear_close()
        async with stream() as again:
            await again.hear("hello")
            return await again.ask("open", session_id=session["session_id"], secret=session["secret"])

    assert play(story(), logs=1)["resumed"] is True


@pytest.mark.parametrize("path", ["/v1/stream", "/"])
def test_a_client_that_never_reads(new_desk, sockets, play, shot, path):
    """It is cut after the time that a message may take, with nothing left of it; others are served meanwhile."""
    desk = new_desk(Limits(send_timeout_s=0.2))

    async def story():
        async with sockets(desk.app, path) as deaf, sockets(desk.app) as other:
            await other.hear("hello")
            await deaf.hear_data()
            deaf.reads.clear()
            for seq in range(2):
                deaf.put(pack({"type": "frame", "session_id": "deaf", "seq": seq, "prompt": "go", **shot}))
            served = [await other.ask("frame", session_id="other", **shot)]
            await deaf.talk
            served.append(await other.ask("frame", session_id="other", **shot))
            listed = await desk.client().get("/v1/sessions")
            return served, listed.json()["sessions"]

    served, sessions = play(story())

    assert [action["type"] for action in served] == ["action"] * 2
    left = {session["id"]: session["connected"] for session in sessions}
    assert left == ({"other": True, "deaf": False} if path == "/v1/stream" else {"other": True})


@pytest.mark.parametrize(
    ("data", "code"),
    [
        ("", "bad-json"),
        ("hello", "bad-json"),
        ("[1]", "bad-json"),
        ('{"type":"ping","x":NaN}', "bad-json"),
        ("[" * 5000, "bad-json"),
        ('{"x":' + "[" * 2000 + "]" * 2000 + "}", "bad-json"),
        ('{"x":[' + ",".join("1" * 1 for _ in range(20_000)) + "]}", "bad-json"),
        ("{}", "bad-field"),
        ('{"type":null}', "bad-field"),
        ('{"type":"action"}', "bad-field"),
        ('{"type":["frame"]}', "bad-field"),
        (b"", "bad-codec"),
        (b"\xc1", "bad-codec"),
        (b"\x93\x01\x02\x03", "bad-codec"),
        (b"\x81\xa4type", "bad-codec"),
        (b"\x80\x80", "bad-codec"),
        (b"\x81\xa1x" + b"\x91" * 5000 + b"\xc0", "bad-codec"),
        (b"\xdf\xff\xff\xff\xff", "bad-codec"),
        (b"\xc6\xff\xff\xff\xffabc", "bad-codec"),
        (pack({"type": {"frame": 1}}), "bad-field"),
        (pack({b"type": b"frame"}), "bad-field"),
        (
            b"\x81\xa4type\x84\xc4\x0b__ndarray__\xc3\xc4\x04data\xc4\x00\xc4\x05dtype\xa2|O\xc4\x05shape\x91\x00",
            "bad-field",
        ),
    ],
)
def test_nonsense_is_answered(stream, play, shot, data, code):
    """Text garbage, binary garbage, deep nesting, a message that is none: a problem, and the connection is kept."""

    async def story():
        async with stream() as socket:
            await socket.hear("hello")
            socket.put(data)
            problem = await socket.hear_data()
            return problem, await socket.ask("frame", session_id="arm", **shot)

    answer, action = play(story())
    message = json.loads(answer) if isinstance(answer, str) else msgpack.unpackb(answer)

    assert isinstance(answer, type(data))
    assert (message["type"], message["problem"]["code"]) == ("problem", code)
    assert "session" not in message
    assert action["type"] == "action"


@pytest.mark.parametrize(
    "spoilt",
    [
        {"image": None},
        {"image": []},
        {"image": {"x": 1}},
        {"images": [1, 2]},
        {"images": {"front": {"front": {}}}},
        {"images": {"rear": b""}},
        {"instruction": 7},
        {"instruction": {}},
        {"unnorm_key": []},
        {"unnorm_key": "ur5"},
        {"max_age_ms": "soon"},
        {"max_age_ms": True},
        {"max_age_ms": 1e12},
        {"reuse": []},
        {"reuse": {"mode": "exact"}},
        {"epoch": {}},
        {"seq": "1"},
        {"t_obs_ns": 1.5},
    ],
)
def test_a_field_that_makes_no_sense(stream, play, shot, spoilt):
    """Whatever a frame's field holds, an array among them, the frame is answered with a problem that points at it."""

    async def story():
        async with stream() as socket:
            await socket.hear("hello")
            answers = []
            for value in (*spoilt.values(), np.arange(6).reshape(2, 3)):
                frame = {**shot, **dict.fromkeys(spoilt, value)}
                if "images" in spoilt:
                    frame.pop("image")
                answers.append(await socket.ask("frame", session_id="arm", **frame))
            return answers, await socket.ask("frame", session_id="arm", **shot)

    answers, action = play(story())

    for answer in answers:
        assert answer["type"] == "problem"
        assert 400 <= answer["problem"]["status"] < 500
        assert answer["problem"]["errors"][0]["pointer"].startswith(f"/{next(iter(spoilt))}")
        assert answer["session"]["id"] == "arm"
    assert action["type"] == "action"


def test_gone_before_it_was_let_in(desk, sockets, play):
    """A client that breaks off during the upgrade is nobody's failure."""

    async def story():
        socket = sockets(desk.app)
        entering = asyncio.create_task(socket.__aenter__())
        await asyncio.sleep(0)  # it has asked, and nobody has answered yet
        socket.drop()
        await asyncio.sleep(0)
        await socket.talk
        entering.cancel()
        return socket.accepted, socket.unheard()

    assert play(story()) == (None, 0)


def test_the_server_gives_up_on_a_connection(desk, stream, play, until, shot):
    """When the server cancels its task, as at the end of its patience, all goes with it and the session is let go."""
    desk.policy.go_on.clear()

    async def story():
        async with stream() as socket, desk.client() as client:
            await socket.hear("hello")
            socket.say("frame", session_id="arm", **shot)
            await until(desk.policy.started.is_set)
            socket.talk.cancel()
            await asyncio.wait({socket.talk})
            cancelled = socket.talk.cancelled()
            socket.talk = asyncio.ensure_future(asyncio.sleep(0))
            desk.policy.go_on.set()
            return cancelled, (await client.get("/v1/sessions/arm")).json()["connected"]

    assert play(story()) == (True, False)
