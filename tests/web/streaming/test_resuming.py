"""Sessions and the connections that hold them: drops, resumption, two hands on one arm."""

from __future__ import annotations

import hashlib
import threading

import numpy as np
import pytest

from stillframe.sessions.settings import SessionSettings
from stillframe.web.app import WebSettings
from stillframe.web.middleware.auth import Authenticator, Token
from stillframe.web.service import frame_parser
from stillframe.web.streaming import session_queue, stream_sessions
from stillframe_client.wire import encode_array


async def opened(socket, **members):
    """Hello, then what open is answered with."""
    await socket.hear("hello")
    return await socket.ask("open", **members)


def test_resumed_with_its_secret(desk, stream, play, until, shot):
    """After a drop another connection goes on: what was computed is replayed, what waited is computed now."""
    desk.policy.go_on.clear()

    async def story():
        async with stream() as first:
            session = await opened(first)
            place = {"session_id": session["session_id"], "epoch": 0}
            for seq in range(2):
                first.say("frame", **place, seq=seq, **shot)
            await until(lambda: len(desk.policy.sessions) == 2)
        desk.policy.go_on.set()
        await until(lambda: len(desk.policy.seen) == 1)
        async with stream() as second:
            again = await opened(second, session_id=session["session_id"], secret=session["secret"])
            return session, again, [await second.ask("frame", **place, seq=seq, **shot) for seq in range(3)]

    session, again, actions = play(story())

    assert again == {**session, "type": "session", "resumed": True}
    assert [action.get("replayed", False) for action in actions] == [True, False, False]
    assert [action["session"]["seq"] for action in actions] == [0, 1, 2]
    assert len(desk.policy.seen) == 3
    assert desk.policy.forgotten == []


def test_a_repeat_joins_what_is_still_computed(desk, stream, play, until, shot):
    """The answer to a frame whose connection dropped meanwhile goes to the one that asks again."""
    desk.policy.go_on.clear()

    async def story():
        async with stream() as first:
            session = await opened(first)
            frame = {"session_id": session["session_id"], "epoch": 0, "seq": 0, **shot}
            first.say("frame", **frame)
            await until(desk.policy.started.is_set)
        async with stream() as second:
            await opened(second, session_id=session["session_id"], secret=session["secret"])
            second.say("frame", **frame)
            await second.ask("ping")
            desk.policy.go_on.set()
            return await second.hear("action")

    assert play(story())["replayed"] is True
    assert len(desk.policy.seen) == 1


def test_a_drop_with_work_queued_frees_its_place(desk, stream, play, until, shot):
    """Of two frames the one that waits is withdrawn as the socket goes, never computed, and counted as abandoned."""
    desk.policy.go_on.clear()

    async def story():
        async with stream() as other, stream() as leaving:
            await other.hear("hello"), await leaving.hear("hello")
            other.say("frame", session_id="staying", seq=0, **shot)
            await until(desk.policy.started.is_set)
            for seq in range(2):
                leaving.say("frame", session_id="leaving", seq=seq, **shot)
            await until(lambda: desk.sample("stillframe_queue_depth") == 3)
            leaving.drop()
            await leaving.talk
            depth = desk.sample("stillframe_queue_depth")
            desk.policy.go_on.set()
            await other.hear("action")
            await other.ask("frame", session_id="staying", seq=1, **shot)
            return depth

    assert play(story()) == 1
    assert len(desk.policy.seen) == 2
    assert desk.sample("stillframe_frames_total", outcome="abandoned") == 2
    assert desk.sample("stillframe_queue_depth") == 0


def test_a_drop_while_a_frame_is_unpacked(desk, stream, play, until, shot, monkeypatch):
    """Nothing is left of it: the frame never reaches the policy."""
    hold, admit, read = threading.Event(), threading.Event(), frame_parser.read_picture

    def held(value, *rest):
        admit.set()
        assert hold.wait(20)
        return read(value, *rest)

    monkeypatch.setattr(frame_parser, "read_picture", held)

    async def story():
        async with stream() as socket:
            await socket.hear("hello")
            socket.say("frame", session_id="arm", seq=0, **shot)
            await until(admit.is_set)
            socket.drop()
            await socket.talk
            hold.set()

    play(story())

    assert desk.policy.sessions == []
    assert desk.sample("stillframe_frames_total", outcome="abandoned") == 1


def test_a_second_socket_without_the_secret(desk, stream, play, shot):
    """While a connection holds a session, another neither opens it nor sends its frames; the first goes on."""
    guessed = {"secret": "guessed"}

    async def story():
        async with stream() as first, stream() as second:
            await opened(first, session_id="arm")
            answers = [
                await opened(second, session_id="arm"),
                await second.ask("open", session_id="arm", **guessed),
                await second.ask("frame", session_id="arm", **shot),
            ]
            return answers, await first.ask("frame", session_id="arm", **shot)

    answers, action = play(story())

    assert [answer["problem"]["code"] for answer in answers] == ["session-exists", "session-exists", "session-in-use"]
    assert [answer["session"]["id"] for answer in answers] == ["arm"] * 3
    assert action["type"] == "action"
    assert len(desk.policy.sessions) == 1


def test_taken_over_with_the_secret(stream, play, shot):
    """The old connection is told, and refused from then on; its other sessions stay; the new one goes on."""

    async def story():
        async with stream() as first, stream() as second:
            session = await opened(first, session_id="arm")
            await first.ask("frame", session_id="other", **shot)
            await first.ask("frame", session_id="arm", **shot)
            again = await opened(second, session_id="arm", secret=session["secret"])
            told = await first.hear("problem")
            refused = await first.ask("frame", session_id="arm", **shot)
            other = await first.ask("frame", session_id="other", **shot)
            action = await second.ask("frame", session_id="arm", image=shot["image"])
            first.drop()
            await first.talk
            return again, told, refused, other, action, await second.ask("frame", session_id="arm", **shot)

    again, told, refused, other, action, last = play(story())

    assert again["resumed"] is True
    assert (told["problem"]["code"], told["session"]) == ("session-in-use", {"id": "arm"})
    assert refused["problem"]["code"] == "session-in-use"
    assert (other["type"], other["session"]["seq"]) == ("action", 1)
    assert (action["type"], action["session"]["seq"]) == ("action", 1)
    assert last["session"]["seq"] == 2  # the old connection's end took nothing with it


def test_taken_over_and_back(stream, play, shot):
    """Once the taker has gone too, the first may send frames again, and then holds the session as it did before."""

    async def story():
        async with stream() as first, stream() as third:
            session = await opened(first, session_id="arm")
            await first.ask("frame", session_id="arm", **shot)
            async with stream() as second:
                await opened(second, session_id="arm", secret=session["secret"])
                await first.hear("problem")
            back = await first.ask("frame", session_id="arm", **shot)
            await third.hear("hello")
            return back, await third.ask("frame", session_id="arm", **shot)

    back, intruder = play(story())

    assert (back["type"], back["session"]["seq"]) == ("action", 1)
    assert intruder["problem"]["code"] == "session-in-use"


def test_taken_over_during_a_step(desk, stream, play, until, shot):
    """Frames that the old connection asked for are answered there; a repeat of them on the new one is answered too."""
    desk.policy.go_on.clear()

    async def story():
        async with stream() as first, stream() as second:
            session = await opened(first, session_id="arm")
            first.say("frame", session_id="arm", epoch=0, seq=0, **shot)
            await until(desk.policy.started.is_set)
            await opened(second, session_id="arm", secret=session["secret"])
            await first.hear("problem")
            second.say("frame", session_id="arm", epoch=0, seq=0, **shot)
            await second.ask("ping")
            desk.policy.go_on.set()
            return await first.hear("action"), await second.hear("action")

    old, new = play(story())

    assert "replayed" not in old
    assert new["replayed"] is True
    assert np.array_equal(old["actions"], new["actions"])
    assert len(desk.policy.seen) == 1


def test_opened_twice_on_one_connection(stream, play, shot, monkeypatch):
    """With its secret a connection may open what it holds already: nobody is told, and frames go on in line."""
    lanes = []

    class Counted(session_queue.SessionQueue):
        def __init__(self, *args):
            super().__init__(*args)
            lanes.append(self)

    monkeypatch.setattr(stream_sessions, "SessionQueue", Counted)

    async def story():
        async with stream() as socket, stream() as other:
            session = await opened(socket, session_id="arm")
            await socket.ask("frame", session_id="arm", **shot)
            again = await socket.ask("open", session_id="arm", secret=session["secret"])
            action = await socket.ask("frame", session_id="arm", **shot)
            intruder = await opened(other, session_id="arm")
            return again, action, intruder

    again, action, intruder = play(story())

    assert again["resumed"] is True
    assert action["session"]["seq"] == 1
    assert len(lanes) == 1
    assert intruder["problem"]["code"] == "session-exists"


def test_http_and_a_stream(desk, stream, play, json_shot, shot):
    """A session that a stream holds takes no frames over HTTP; once the stream has gone it does, and counts on."""

    async def story():
        async with desk.client() as client:
            body = {**json_shot, "session_id": "arm"}
            async with stream() as socket:
                await opened(socket, session_id="arm")
                await socket.ask("frame", session_id="arm", **shot)
                held = await client.post("/v1/act", json=body)
            return held, await client.post("/v1/act", json=body)

    held, free = play(story())

    assert (held.status_code, held.json()["code"]) == (409, "session-in-use")
    assert free.json()["session"] == {"id": "arm", "epoch": 0, "seq": 1}


def test_closed_over_http(desk, stream, play, shot):
    """A session that somebody else closes is gone for its stream too, unless the client chose its id."""

    async def story():
        async with stream() as socket, desk.client() as client:
            ours = (await opened(socket))["session_id"]
            for session in (ours, "arm"):
                await socket.ask("frame", session_id=session, **shot)
                assert (await client.delete(f"/v1/sessions/{session}")).status_code == 204
            return [await socket.ask("frame", session_id=session, **shot) for session in (ours, "arm")]

    gone, reborn = play(story())

    assert gone["problem"]["code"] == "session-closed"
    assert reborn["session"] == {"id": "arm", "epoch": 0, "seq": 0}


def test_nobody_comes_back(new_desk, sockets, play, shot):
    """A session is kept for as long as it can be resumed, and then freed."""
    desk = new_desk(settings=WebSettings(sessions=SessionSettings(resume_s=0)))

    async def story():
        async with desk.client() as client:
            async with sockets(desk.app) as socket:
                await opened(socket, session_id="arm")
                await socket.ask("frame", session_id="arm", **shot)
            return (await client.get("/v1/sessions/arm")).json()

    assert play(story())["code"] == "session-expired"
    assert desk.policy.forgotten == ["arm"]


def test_sessions_of_others(new_desk, sockets, play, shot):
    """A session belongs to its token: to another an id of ours is unknown, secret or not, and one of hers its own."""
    tokens = [Token(name, hashlib.sha256(name.encode()).hexdigest(), frozenset({"act"})) for name in ("ann", "bob")]
    desk = new_desk(settings=WebSettings(authenticator=Authenticator(tokens)))

    async def story():
        async with (
            sockets(desk.app, headers=[("authorization", "Bearer ann")]) as ann,
            sockets(desk.app, headers=[("authorization", "Bearer bob")]) as bob,
        ):
            hers = [await opened(ann), await ann.ask("open", session_id="arm")]
            await bob.hear("hello")
            return [
                await bob.ask(kind, session_id=session["session_id"], **members)
                for session in hers
                for kind, members in (
                    ("open", {"secret": session["secret"]}),
                    ("frame", shot),
                    ("reset", {}),
                    ("close", {}),
                )
            ]

    answers = play(story())

    assert [answer["problem"]["code"] for answer in answers[:4]] == ["unknown-session"] * 4
    assert [answer["type"] for answer in answers[4:]] == ["session", "action", "reset", "closed"]
    assert not answers[4]["resumed"]
    assert desk.policy.forgotten == ["bob/arm"]


@pytest.mark.parametrize(
    ("members", "code"),
    [
        ({"service": "best-effort"}, "unknown-service"),
        ({"service": ["realtime"]}, "bad-field"),
        ({"reuse": "most"}, "unknown-reuse-mode"),
        ({"reuse": np.arange(3)}, "bad-field"),
        ({"secret": 7}, "bad-field"),
        ({"session_id": " "}, "session-id-invalid"),
        ({"session_id": "s-" + "0" * 32}, "unknown-session"),
    ],
)
def test_what_cannot_be_opened(stream, play, members, code):
    """A word that is none, an id against the rule, an id of ours that we never gave: the stream goes on."""

    async def story():
        async with stream() as socket:
            refused = await opened(socket, **members)
            return refused, await socket.ask("open")

    refused, session = play(story())

    assert refused["problem"]["code"] == code
    assert session["type"] == "session"


def test_no_room_for_a_session(new_desk, sockets, play, shot):
    """Where every session is in use, open and an implicit opening are refused with the time to wait."""
    desk = new_desk(settings=WebSettings(sessions=SessionSettings(most=1)))

    async def story():
        async with sockets(desk.app) as socket:
            await opened(socket, session_id="arm")
            return [
                await socket.ask("open"),
                await socket.ask("frame", session_id="other", seq=0, **shot),
                await socket.ask("frame", session_id="arm", seq=0, **shot),
            ]

    opening, frame, other = play(story())

    assert [answer["problem"]["code"] for answer in (opening, frame)] == ["too-many-sessions"] * 2
    assert 0 < opening["problem"]["retry_after_ms"] <= 5000
    assert other["type"] == "action"


def test_the_mode_of_a_session(stream, play, shot):
    """The mode that open names holds for its frames that name none."""

    async def story():
        async with stream() as socket:
            await opened(socket, session_id="arm", reuse="exact")
            modes = [
                await socket.ask("frame", session_id="arm", **shot, **said) for said in ({}, {"reuse": "paper"}, {})
            ]
            return [action["cache"]["mode"] for action in modes]

    assert play(story()) == ["exact", "paper", "exact"]


def test_the_same_session_over_both_wires_is_one(desk, stream, play, shot):
    """What HTTP opened can be taken up on a stream with its secret, and the count goes on."""

    async def story():
        async with stream() as socket, desk.client() as client:
            session = (await client.post("/v1/sessions", json={})).json()
            body = {"image": encode_array(shot["image"]), "instruction": "go"}
            await client.post(f"/v1/sessions/{session['session_id']}/act", json=body)
            again = await opened(socket, session_id=session["session_id"], secret=session["secret"])
            return again, await socket.ask("frame", session_id=session["session_id"], image=shot["image"])

    again, action = play(story())

    assert again["resumed"] is True
    assert (action["type"], action["session"]["seq"]) == ("action", 1)
