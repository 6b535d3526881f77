from __future__ import annotations

import asyncio
import threading

import msgpack
import numpy as np
import pytest

from stillframe.sessions.settings import SessionSettings
from stillframe.web.app import WebSettings
from stillframe.web.middleware.listeners import Listener
from stillframe.web.middleware.rate_limit import RateLimiter
from stillframe.web.service import frame_parser
from stillframe.web.streaming import openpi_sessions
from stillframe_client.wire import RESTART, pack, unpack

ECHO = [12.0, 16.0, 0.0, 1.0, 2.0, 2.0, 1.0]  # of the picture and "go"


@pytest.fixture
def seen(picture):
    """What a robot sees, in LIBERO's keys."""
    return {"observation/image": picture, "observation/state": np.zeros(8), "prompt": "go"}


async def infer(socket, observation):
    """One turn: bytes are a reply, text is an error."""
    socket.put(pack(observation))
    data = await socket.hear_data()
    return data if isinstance(data, str) else unpack(data)


def places(desk):
    """Where the frames went, the ids as numbers in the order of their first frame."""
    ids = list(dict.fromkeys(session.id for session in desk.policy.sessions))
    return [(ids.index(session.id), session.epoch, session.seq) for session in desk.policy.sessions]


def test_metadata_first(openpi, play):
    """The server speaks first: one binary map of plain values with text for keys."""

    async def story():
        async with openpi() as socket:
            return socket.accepted, await socket.hear_data()

    accepted, data = play(story())

    assert accepted is None
    assert data[0] & 0xF0 == 0x80
    assert msgpack.unpackb(data, strict_map_key=True)["cameras"] == ["front"]


def test_in_turn(desk, openpi, play, seen):
    """Each observation has one reply; timings are numbers, the total of the last turn among them from the second on."""

    async def story():
        async with openpi() as socket:
            await socket.hear_data()
            return [await infer(socket, seen) for _ in range(3)], socket.unheard()

    replies, more = play(story())

    assert more == 0
    for turn, reply in enumerate(replies):
        assert set(reply) == {"actions", "policy_timing", "server_timing"}
        assert (reply["actions"].dtype, reply["actions"].tolist()) == (np.dtype(np.float32), [ECHO])
        assert set(reply["server_timing"]) == {"infer_ms"} | ({"prev_total_ms"} if turn else set())
        assert all(type(value) is float for kind in ("policy", "server") for value in reply[f"{kind}_timing"].values())
    assert [reply["server_timing"].get("prev_total_ms") for reply in replies[1:]] == [
        reply["server_timing"]["infer_ms"] for reply in replies[:2]
    ]
    assert places(desk) == [(0, 0, 0), (0, 0, 1), (0, 0, 2)]


def test_two_observations_at_once(openpi, play, seen):
    """A client that does not wait for its turn is answered all the same, in order."""

    async def story():
        async with openpi() as socket:
            await socket.hear_data()
            for words in ("a", "bb", "ccc"):
                socket.put(pack({**seen, "prompt": words}))
            return [unpack(await socket.hear_data())["actions"][0][5] for _ in range(3)]

    assert play(story()) == [1, 2, 3]


@pytest.mark.parametrize(
    ("spoilt", "code"),
    [
        (b"\xc1", "bad-codec"),
        ("text", "bad-codec"),
        (b"\x91\x01", "bad-codec"),
        ({"observation/image": np.zeros((4, 4, 2), np.uint8), "prompt": "go"}, "image-invalid"),
        ({"prompt": "go"}, "missing-camera"),
        ({"endpoint": "kill"}, "bad-field"),
        ({"endpoint": np.arange(4)}, "bad-field"),
        ({"endpoint": ["reset"]}, "bad-field"),
        ({"session_id": {}}, "bad-field"),
        ({"session_id": np.arange(2)}, "bad-field"),
        ({"env_id": 1.5}, "bad-field"),
        ({"env_id": "x" * 129}, "bad-field"),
        ({"prompt": 7}, "bad-field"),
        ({"reuse": np.arange(3)}, "bad-field"),
    ],
)
def test_an_error_is_text(desk, openpi, play, seen, spoilt, code):
    """What is wrong is one line of text that begins with its code; the connection is kept and the next turn works."""
    data = spoilt if isinstance(spoilt, bytes | str) else pack({**seen, **spoilt} if "prompt" not in spoilt else spoilt)
    if isinstance(spoilt, dict) and spoilt.get("prompt") == 7:
        data = pack({**seen, **spoilt})

    async def story():
        async with openpi() as socket:
            await socket.hear_data()
            socket.put(data)
            return await socket.hear_data(), await infer(socket, seen)

    error, reply = play(story())

    assert isinstance(error, str)
    assert error.startswith(f"{code}: ")
    assert "\n" not in error
    assert reply["actions"].tolist() == [ECHO]
    assert desk.sample("stillframe_rejected_total", code=code) == 1


def test_an_error_names_the_key(openpi, play, seen, picture):
    """Whose value it is that is wrong, as the client calls it; one line."""
    floats = {**seen, "observation/image": picture.astype("float32")}
    words = {**seen, "observation/image": {b"__ndarray__": True, b"data": b"", b"dtype": "|O", b"shape": [0]}}

    async def story():
        async with openpi() as socket:
            await socket.hear_data()
            for spoilt in (floats, words):
                socket.put(pack(spoilt))
            return [await socket.hear_data() for _ in range(2)]

    ranges, objects = play(story())

    assert ranges.startswith("image-invalid: The picture's float32 values are 0 to ")
    assert objects.startswith("unsupported-dtype: dtype is '|O'")
    assert all(error.endswith("(at /observation~1image)") and "\n" not in error for error in (ranges, objects))


@pytest.mark.parametrize("words", [np.array("go up"), np.array(["go up"]), np.array(b"go up"), ["go up"]])
def test_words_as_numpy_has_them(desk, openpi, play, seen, words):
    """An array of one string is what it holds; arrays of strings that nothing reads are left aside."""
    tags = np.array(["lab", "night"])

    async def story():
        async with openpi() as socket:
            await socket.hear_data()
            socket.put(pack({**seen, "prompt": as_sent(words), "tags": as_sent(tags)}))
            return unpack(await socket.hear_data())

    play(story())

    assert desk.policy.seen[-1].instruction == "go up"


def as_sent(value):
    """An array of strings in openpi's form."""
    if not isinstance(value, np.ndarray):
        return value
    data = {b"data": value.tobytes(), b"dtype": value.dtype.str, b"shape": list(value.shape)}
    return {b"__ndarray__": True, **data}


def test_a_hand_is_no_scene(desk, openpi, play, picture):
    """LIBERO's own names: the policy's one camera gets the picture that is not the hand's, whichever comes first."""
    hand, scene = np.zeros_like(picture), picture + 1

    async def story():
        async with openpi() as socket:
            await socket.hear_data()
            pictures = {"robot0_eye_in_hand_image": hand, "agentview_image": scene}
            for keys in (list(pictures), list(pictures)[::-1]):
                socket.put(pack({**{key: pictures[key] for key in keys}, "prompt": "go"}))
                await socket.hear_data()
            socket.put(pack({"exterior_1": hand, "exterior_2": scene, "prompt": "go"}))
            return await socket.hear_data()

    refused = play(story())

    assert all(np.array_equal(seen.images["front"], scene) for seen in desk.policy.seen)
    assert len(desk.policy.seen) == 2
    assert refused.startswith("ambiguous-camera: Camera 'front' could be any of 'exterior_1', 'exterior_2'")


def test_a_missing_prompt_goes_on(openpi, play, seen, picture):
    """The first observation of a connection has to say what to do; later ones may leave it out."""

    async def story():
        async with openpi() as socket:
            await socket.hear_data()
            error = await infer(socket, {"observation/image": picture})
            await infer(socket, seen)
            return error, await infer(socket, {"observation/image": picture})

    error, reply = play(story())

    assert error.startswith("missing-field: ")
    assert reply["actions"].tolist() == [ECHO]


@pytest.mark.parametrize("poison", [np.nan, np.inf])
def test_a_poisoned_action_is_an_error(desk, openpi, play, seen, poison):
    """NaN or infinity never reaches the robot as an action."""
    desk.policy.actions = np.array([[0, 0, 0, 0, 0, 0, poison]])

    async def story():
        async with openpi() as socket:
            await socket.hear_data()
            return await infer(socket, seen)

    assert play(story()).startswith("non-finite-action: ")


@pytest.mark.parametrize(
    "said",
    [
        {"endpoint": "reset"},
        {"endpoint": "reset", "session_id": None, "session_ids": None},
        {"endpoint": "reset", "reset_info": {"reason": "done"}},
    ],
)
def test_reset_by_itself(desk, openpi, play, seen, said):
    """It begins the next episode and is answered with a map: openpi's client takes text for an error."""

    async def story():
        async with openpi() as socket:
            await socket.hear_data()
            await infer(socket, seen)
            done = await infer(socket, said)
            await infer(socket, {**seen, "endpoint": "infer"})
            return done

    assert play(story()) == {"status": "reset successful"}
    assert places(desk) == [(0, 0, 0), (0, 1, 0)]


@pytest.mark.parametrize("flag", [True, 1, np.True_, np.array([True]), np.array(1)])
def test_reset_in_an_observation(desk, openpi, play, seen, flag):
    """The frame is the first of the next episode; in a session's very first frame there is nothing to end."""

    async def story():
        async with openpi() as socket:
            await socket.hear_data()
            for more in (
                {"reset": flag},
                {"reset": False},
                {"reset": flag},
                {"reset": None},
                {"reset": np.array([False])},
            ):
                await infer(socket, {**seen, **more})

    play(story())

    assert places(desk) == [(0, 0, 0), (0, 0, 1), (0, 1, 0), (0, 1, 1), (0, 1, 2)]


@pytest.mark.parametrize("word", ["yes", "", 1.0, [1], np.array([1, 1]), np.array([0.5]), {"reset": True}])
def test_what_is_no_flag_resets_nothing(desk, openpi, play, seen, word):
    """A word that some client has for something else ends no episode."""

    async def story():
        async with openpi() as socket:
            await socket.hear_data()
            for more in ({}, {"reset": word}):
                await infer(socket, {**seen, **more})

    play(story())

    assert places(desk) == [(0, 0, 0), (0, 0, 1)]


def test_nobody_else_speaks_for_a_scene(desk, openpi, play, seen, frame):
    """Its session is the connection's as long as that is open, and ends with it."""

    async def story():
        async with openpi() as socket, desk.client() as http:
            await socket.hear_data()
            await infer(socket, seen)
            path = f"/v1/sessions/{desk.policy.sessions[0].id}/act"
            held = await http.post(path, json=frame)
        async with desk.client() as http:
            return held.json()["code"], (await http.post(path, json=frame)).json()["code"]

    assert play(story()) == ("session-in-use", "session-closed")


def test_a_text_frame_is_told_what_it_is(openpi, play):
    """Text is no msgpack, whatever its bytes would mean: the client learns what to send instead."""

    async def story():
        async with openpi() as socket:
            await socket.hear_data()
            socket.put("{}")
            return await socket.hear_data()

    assert play(story()) == "bad-codec: This wire takes msgpack in binary frames; a text frame came."


@pytest.mark.parametrize("name", ["session_ids", "env_ids"])
def test_one_reset_names_so_many(openpi, play, seen, name):
    """To the last one; a message's bytes could be ten million."""

    async def story():
        async with openpi() as socket:
            await socket.hear_data()
            await infer(socket, seen)
            ids = [np.arange(count) for count in (openpi_sessions.MAX_NAMED, openpi_sessions.MAX_NAMED + 1)]
            return [await infer(socket, {"endpoint": "reset", name: each}) for each in ids]

    done, refused = play(story())

    assert done == {"status": "reset successful"}
    assert refused.startswith("bad-field")


@pytest.mark.parametrize("ids", [("a", "b"), (1, 2), (np.array([1]), np.array(2)), (np.int64(3), 4)])
def test_another_session_id_ends_the_last_one(desk, openpi, play, seen, ids):
    """Ids as text, numbers and arrays of one: a new one begins a session and frees what the last one held."""

    async def story():
        async with openpi() as socket:
            await socket.hear_data()
            for session_id in (ids[0], ids[0], ids[1]):
                await infer(socket, {**seen, "session_id": session_id})
            return list(desk.policy.forgotten)

    freed = play(story())

    assert places(desk) == [(0, 0, 0), (0, 0, 1), (1, 0, 0)]
    assert freed == [desk.policy.sessions[0].id]


def test_a_number_and_its_text_are_one(desk, openpi, play, seen):
    """A client that sends 1 here and "1" there means the same session."""

    async def story():
        async with openpi() as socket:
            await socket.hear_data()
            for session_id in (1, "1", np.array([1])):
                await infer(socket, {**seen, "session_id": session_id})

    play(story())

    assert places(desk) == [(0, 0, 0), (0, 0, 1), (0, 0, 2)]


def test_scenes_side_by_side(desk, openpi, play, seen):
    """Simulators number their scenes: each is a session, and the reset of one leaves the others as they are."""

    async def story():
        async with openpi() as socket:
            await socket.hear_data()
            for scene in (0, 1, 0, 1):
                await infer(socket, {**seen, "env_id": scene})
            await infer(socket, {"endpoint": "reset", "env_id": 1})
            for scene in (0, 1):
                await infer(socket, {**seen, "env_id": np.int64(scene)})

    play(story())

    assert places(desk) == [(0, 0, 0), (1, 0, 0), (0, 0, 1), (1, 0, 1), (0, 0, 2), (1, 1, 0)]


def test_scenes_with_episodes(desk, openpi, play, seen):
    """With both keys another session_id ends that scene's episode alone."""

    async def story():
        async with openpi() as socket:
            await socket.hear_data()
            for episode, scene in (("a", 0), ("a", 1), ("b", 0), ("a", 1)):
                await infer(socket, {**seen, "session_id": episode, "env_id": scene})
            return list(desk.policy.forgotten)

    freed = play(story())

    assert places(desk) == [(0, 0, 0), (1, 0, 0), (2, 0, 0), (1, 0, 1)]
    assert freed == [desk.policy.sessions[0].id]


@pytest.mark.parametrize("named", [["a", "b"], np.array([1, 2]), "a"])
def test_reset_of_several(desk, openpi, play, seen, named):
    """DreamZero's clients name the sessions to reset in a list; one that nobody knows is nobody's loss."""
    ids = named if isinstance(named, list) else [named] if isinstance(named, str) else named.tolist()

    async def story():
        async with openpi() as socket:
            await socket.hear_data()
            for scene in ("x", *ids[-1:]):
                await infer(socket, {**seen, "session_id": scene, "env_id": scene})
            await infer(socket, {"endpoint": "reset", "session_ids": named})
            for scene in ("x", *ids[-1:]):
                await infer(socket, {**seen, "session_id": scene, "env_id": scene})

    play(story())

    assert places(desk) == [(0, 0, 0), (1, 0, 0), (0, 0, 1), (1, 1, 0)]


def test_so_many_scenes_and_no_more(new_desk, sockets, play, seen, monkeypatch):
    """Beyond the limit the longest known one makes room: a client that counts up holds no more than that."""
    monkeypatch.setattr(openpi_sessions, "MAX_SESSIONS", 2)
    desk = new_desk()

    async def story():
        async with sockets(desk.app, "/", protocol=None) as socket:
            await socket.hear_data()
            for scene in range(5):
                await infer(socket, {**seen, "env_id": scene})
            return list(desk.policy.forgotten)

    freed = play(story())

    assert freed == [session.id for session in desk.policy.sessions[:3]]


def test_connections_have_sessions_of_their_own(desk, openpi, play, seen):
    """The same number on two connections is two robots; what a connection held is freed as it goes."""

    async def story():
        async with openpi() as left, openpi() as right:
            await left.hear_data(), await right.hear_data()
            for socket in (left, right, left):
                await infer(socket, {**seen, "session_id": 0})
            left.drop()
            await left.talk
            freed = list(desk.policy.forgotten)
            await infer(right, {**seen, "session_id": 0})
            return freed

    freed = play(story())

    assert places(desk) == [(0, 0, 0), (1, 0, 0), (0, 0, 1), (1, 0, 1)]
    assert freed == [desk.policy.sessions[0].id]


def test_an_evicted_session_begins_anew(new_desk, sockets, play, seen):
    """A connection whose idle session made room for another robot's goes on with a new one."""
    desk = new_desk(settings=WebSettings(sessions=SessionSettings(most=1, lease_s=0)))

    async def story():
        async with sockets(desk.app, "/", protocol=None) as left, sockets(desk.app, "/", protocol=None) as right:
            await left.hear_data(), await right.hear_data()
            replies = [await infer(left, seen), await infer(right, seen)]
            return [*replies, await infer(left, {"endpoint": "reset"}), await infer(left, seen)]

    replies = play(story())

    assert all(isinstance(reply, dict) for reply in replies)
    assert places(desk) == [(0, 0, 0), (1, 0, 0), (2, 0, 0)]


def test_no_room_is_an_error(new_desk, sockets, play, seen):
    """Where all sessions are in use the observation is refused in words, and works once there is room."""
    desk = new_desk(settings=WebSettings(sessions=SessionSettings(most=1)))

    async def story():
        async with sockets(desk.app, "/", protocol=None) as right:
            await right.hear_data()
            async with sockets(desk.app, "/", protocol=None) as left:
                await left.hear_data()
                await infer(left, seen)
                error = await infer(right, seen)
            return error, await infer(right, seen)

    error, reply = play(story())

    assert error.startswith("too-many-sessions: ")
    assert isinstance(reply, dict)


def test_the_rate_is_a_connections(new_desk, sockets, play, seen):
    """Robots at one address do not use up each other's rate."""
    desk = new_desk(settings=WebSettings(frame_limiter=RateLimiter(1.0, burst_s=1.0, clock=lambda: 0.0)))

    async def story():
        async with sockets(desk.app, "/", protocol=None) as left, sockets(desk.app, "/", protocol=None) as right:
            await left.hear_data(), await right.hear_data()
            return [await infer(socket, seen) for socket in (left, left, right)]

    first, flood, other = play(story())

    assert isinstance(first, dict)
    assert flood.startswith("rate-limited: ")
    assert isinstance(other, dict)


def test_gone_while_it_is_computed(desk, openpi, play, until, seen):
    """A client that leaves in the middle of a step is let go of at once; its session is freed."""
    desk.policy.go_on.clear()

    async def story():
        async with openpi() as socket:
            await socket.hear_data()
            socket.put(pack(seen))
            await until(desk.policy.started.is_set)
            socket.drop()
            await socket.talk
            return list(desk.policy.forgotten), desk.sample("stillframe_queue_depth")

    freed, depth = play(story())
    desk.policy.go_on.set()

    assert len(freed) == 1
    assert depth == 0
    assert desk.sample("stillframe_frames_total", outcome="abandoned") == 1


def test_gone_while_it_waits(desk, openpi, play, until, seen):
    """Its frame is withdrawn from the queue and never computed."""
    desk.policy.go_on.clear()

    async def story():
        async with openpi() as staying, openpi() as leaving:
            await staying.hear_data(), await leaving.hear_data()
            staying.put(pack(seen))
            await until(desk.policy.started.is_set)
            leaving.put(pack(seen))
            await until(lambda: len(desk.policy.sessions) == 2)
            leaving.drop()
            await leaving.talk
            desk.policy.go_on.set()
            await staying.hear_data()
            return await infer(staying, seen)

    assert isinstance(play(story()), dict)
    assert len(desk.policy.seen) == 2


@pytest.mark.parametrize("state", ["loading", "warming", "stuck"])
def test_metadata_is_held_back(new_desk, sockets, play, seen, state):
    """A client that comes while no frames are taken waits for the metadata; what it said before is answered later."""
    desk = new_desk(loaded=state != "loading", ready=state != "warming", busy_s=1e6 if state == "stuck" else 0.0)

    async def story():
        async with sockets(desk.app, "/", protocol=None) as socket:
            socket.put(pack(seen))
            for _ in range(20):  # it would be there by now
                await asyncio.sleep(0)
            assert socket.unheard() == 0
            desk.policy.ready, desk.policy.busy_s = True, 0.0
            desk.lifecycle.serve(desk.policy)
            return unpack(await socket.hear_data()), unpack(await socket.hear_data())

    metadata, reply = play(story())

    assert metadata["policy"] == "echo"
    assert reply["actions"].tolist() == [ECHO]


def test_drain(desk, openpi, play, until, seen):
    """What is computed is answered, then 1012; a connection that waits for nothing ends at once."""
    desk.policy.go_on.clear()

    async def story():
        async with openpi() as busy, openpi() as idle:
            await busy.hear_data(), await idle.hear_data()
            busy.put(pack(seen))
            await until(desk.policy.started.is_set)
            desk.lifecycle.drain()
            codes = [await idle.hear_close()]
            desk.policy.go_on.set()
            return await busy.hear_data(), [*codes, await busy.hear_close()]

    reply, codes = play(story())

    assert unpack(reply)["actions"].tolist() == [ECHO]
    assert codes == [RESTART] * 2


def test_asked_as_the_drain_began(desk, openpi, play, seen):
    """An observation that comes with the drain is refused in words before the connection ends."""

    async def story():
        async with openpi() as socket:
            await socket.hear_data()
            socket.put(pack(seen))
            desk.lifecycle.drain()
            return await socket.hear_data(), await socket.hear_close()

    error, code = play(story())

    assert error.startswith("draining: ")
    assert code == RESTART


def test_let_in_before_the_drain(desk, openpi, play, until, seen, monkeypatch):
    """An observation that is still unpacked when the drain begins is answered."""
    hold, admit, read = threading.Event(), threading.Event(), frame_parser.read_picture

    def held(value, *rest):
        admit.set()
        assert hold.wait(20)
        return read(value, *rest)

    monkeypatch.setattr(frame_parser, "read_picture", held)

    async def story():
        async with openpi() as socket:
            await socket.hear_data()
            socket.put(pack(seen))
            await until(admit.is_set)
            desk.lifecycle.drain()
            hold.set()
            return await socket.hear_data(), await socket.hear_close()

    reply, code = play(story())

    assert unpack(reply)["actions"].tolist() == [ECHO]
    assert code == RESTART


def test_roboarena(openpi, play, seen):
    """Its clients want six keys, the bare array, and words after a reset."""

    async def story():
        async with openpi("/roboarena") as socket:
            metadata = unpack(await socket.hear_data())
            reply = await infer(socket, {**seen, "endpoint": "infer", "session_id": "38DSA3hd3"})
            return metadata, reply, await infer(socket, {"endpoint": "reset"})

    metadata, reply, done = play(story())

    assert len(metadata) == 6
    assert (reply.dtype, reply.tolist()) == (np.dtype(np.float32), [ECHO])
    assert done == "reset successful"


def test_the_profile_of_a_port(new_desk, sockets, play):
    """A listener's profile says what is spoken at its root."""
    desk = new_desk(settings=WebSettings(listeners={80: Listener(profile="roboarena")}))

    async def story():
        async with sockets(desk.app, "/", protocol=None) as socket:
            return unpack(await socket.hear_data())

    assert "needs_wrist_camera" in play(story())
