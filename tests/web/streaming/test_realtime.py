"""Realtime on the native stream: the newest frame wins, and every other one is told so."""

from __future__ import annotations

import threading

import pytest

from stillframe.web.service import frame_parser


@pytest.fixture
def decoding(monkeypatch):
    """Hold every picture's decoding until the event is set; `decoding.seen` counts them."""
    hold, read = threading.Event(), frame_parser.read_picture
    hold.seen = []

    def held(value, *rest):
        hold.seen.append(1)
        assert hold.wait(20)
        return read(value, *rest)

    monkeypatch.setattr(frame_parser, "read_picture", held)
    yield hold
    hold.set()


async def opened(socket, session="arm"):
    """Say hello and open a session in realtime."""
    await socket.hear("hello")
    session = await socket.ask("open", session_id=session, service="realtime")
    assert session["service"] == "realtime"


def by_type(messages):
    """Seqs and who came after, by the type of the answer, in order of seq."""
    found = {}
    for message in sorted(messages, key=lambda message: message["session"]["seq"]):
        found.setdefault(message["type"], []).append((message["session"]["seq"], message.get("by")))
    return found


def test_the_newest_frame_wins(desk, stream, play, until, shot):
    """One is computed; of those that wait behind it only the last is; each of the others is told by whom, at once."""
    desk.policy.go_on.clear()

    async def story():
        async with stream() as socket:
            await opened(socket)
            socket.say("frame", session_id="arm", epoch=0, seq=0, **shot)
            await until(desk.policy.started.is_set)
            overtaken = []
            for seq in range(1, 5):
                socket.say("frame", session_id="arm", epoch=0, seq=seq, t_obs_ns=seq, **shot)
                await until(lambda seq=seq: len(desk.policy.sessions) == seq + 1)
                overtaken += [await socket.hear("superseded")] if seq > 1 else []
            desk.policy.go_on.set()
            return overtaken, await socket.hear_all(2)

    overtaken, actions = play(story())

    assert [message["session"] for message in overtaken] == [{"id": "arm", "epoch": 0, "seq": seq} for seq in (1, 2, 3)]
    assert [(message["by"], message["t_obs_ns"]) for message in overtaken] == [(2, 1), (3, 2), (4, 3)]
    assert [action["session"]["seq"] for action in actions] == [0, 4]
    assert len(desk.policy.seen) == 2
    assert desk.sample("stillframe_frames_total", outcome="superseded") == 3
    assert desk.sample("stillframe_superseded_total") == 3


def test_frames_that_wait_undecoded_give_way(desk, stream, play, shot, decoding):
    """While one is decoded, the newest of the others waits; the rest are answered before that, and never decoded."""

    async def story():
        async with stream() as socket:
            await opened(socket)
            for seq in range(6):
                socket.say("frame", session_id="arm", epoch=0, seq=seq, **shot)
            overtaken = await socket.hear_all(4)
            decoding.set()
            return overtaken, await socket.hear_all(2)

    overtaken, rest = play(story())

    assert by_type(overtaken) == {"superseded": [(1, 2), (2, 3), (3, 4), (4, 5)]}
    assert sorted(message["session"]["seq"] for message in rest) == [0, 5]
    assert len(decoding.seen) == 2
    assert desk.sample("stillframe_superseded_total") == 6 - sum(message["type"] == "action" for message in rest)


def test_every_frame_has_one_answer(desk, stream, play, shot):
    """However fast they come: as many answers as frames, each frame's one, the last of them an action."""

    async def story():
        async with stream() as socket:
            await opened(socket)
            for seq in range(60):
                socket.say("frame", session_id="arm", epoch=0, seq=seq, **shot)
            answers = await socket.hear_all(60)
            await socket.ask("ping")
            return answers, socket.unheard()

    answers, more = play(story())
    ends = by_type(answers)

    assert more == 0
    assert sorted(message["session"]["seq"] for message in answers) == list(range(60))
    assert ends["action"][-1][0] == 59
    assert all(seq < by for seq, by in ends.get("superseded", []))
    assert len(desk.policy.seen) == len(ends["action"])


def test_without_a_seq(stream, play, shot, decoding):
    """A client that does not number its frames knows the overtaken one by its clock."""

    async def story():
        async with stream() as socket:
            await opened(socket)
            for stamp in range(3):
                socket.say("frame", session_id="arm", t_obs_ns=stamp, **shot)
            overtaken = await socket.hear("superseded")
            decoding.set()
            return overtaken, await socket.hear_all(2)

    overtaken, _ = play(story())

    assert (overtaken["session"], overtaken["t_obs_ns"], overtaken["by"]) == ({"id": "arm"}, 1, None)


def test_a_reset_overtakes_nothing(stream, play, shot, decoding):
    """A frame that waits undecoded when the reset comes belongs to the old episode, and is answered there."""

    async def story():
        async with stream() as socket:
            await opened(socket)
            for seq in range(2):
                socket.say("frame", session_id="arm", epoch=0, seq=seq, **shot)
            socket.say("reset", session_id="arm")
            socket.say("frame", session_id="arm", epoch=1, seq=0, **shot)
            decoding.set()
            return await socket.hear_all(4)

    messages = play(story())
    answers = [message for message in messages if message["type"] != "reset"]

    assert len(answers) == 3
    assert [message["epoch"] for message in messages if message["type"] == "reset"] == [1]
    assert not [message for message in answers if message["type"] == "problem"]
    assert {message["session"]["epoch"] for message in answers} == {0, 1}
    assert next(message for message in answers if message["session"]["epoch"] == 1)["type"] == "action"


def test_others_wait_for_nobody(desk, stream, play, until, shot):
    """Two sessions on one socket: what one overtakes is its own."""
    desk.policy.go_on.clear()

    async def story():
        async with stream() as socket:
            await opened(socket, "left")
            await socket.ask("open", session_id="right", service="realtime")
            socket.say("frame", session_id="left", seq=0, **shot)
            await until(desk.policy.started.is_set)
            socket.say("frame", session_id="right", seq=0, **shot)
            await until(lambda: len(desk.policy.sessions) == 2)
            socket.say("frame", session_id="left", seq=1, **shot)
            await until(lambda: len(desk.policy.sessions) == 3)
            desk.policy.go_on.set()
            return await socket.hear_all(3)

    answers = play(story())

    assert [(message["type"], message["session"]["id"], message["session"]["seq"]) for message in answers] == [
        ("action", "left", 0),
        ("action", "right", 0),
        ("action", "left", 1),
    ]
