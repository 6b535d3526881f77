"""A policy of eight actions a frame, through every wire, HTTP or stream: each client gets the form that it knows."""

from __future__ import annotations

import io
import json

import numpy as np
import PIL.Image
import pytest

from stillframe.testing import policy_info
from stillframe_client.wire import (
    CHUNK_HEADER,
    JSON_PROTOCOL,
    MSGPACK_PROTOCOL,
    WHOLE_CHUNK,
    decode_array,
    encode_array,
    pack,
    unpack,
)

STATS = {"q01": [-0.05] * 6 + [0.0], "q99": [0.05] * 6 + [1.0], "mask": [True] * 6 + [False]}
INFO = policy_info(chunk_horizon=8, norm_stats={"jaco": STATS}, default_unnorm_key="jaco")
CHUNK = np.random.default_rng(8).normal(size=(8, 7))
NARROW = CHUNK.astype(np.float32)


@pytest.fixture
def desk(new_desk):
    """The app over a policy that always answers CHUNK."""
    return new_desk(info=INFO, actions=CHUNK)


def test_the_contract_says_how_many_actions(new_desk):
    """Half of a chunk is to be played, or what the deployment advises; of a single action the one."""

    def contract(**changes):
        card = new_desk(info=policy_info(**changes)).ask("GET", "/v1/models").json()["models"][0]
        return card["action"]["chunk_horizon"], card["action"]["execute"]

    assert contract(chunk_horizon=8) == (8, 4)
    assert contract(chunk_horizon=8, execute=6) == (8, 6)
    assert contract(chunk_horizon=1) == (1, 1)
    assert contract(chunk_horizon=3) == (3, 1)


def test_native_json(desk, frame):
    """Every action to the bit, and for which control steps they are: the frame's own is its seq."""
    replies = [desk.ask("POST", "/v1/act", json={**frame, "session_id": "arm", "seq": seq}).json() for seq in (0, 4)]

    assert [reply["actions"] for reply in replies] == [CHUNK.tolist()] * 2
    assert [reply["steps"] for reply in replies] == [{"first": 0, "count": 8}, {"first": 4, "count": 8}]


def test_a_stateless_frame_counts_from_itself(desk, frame):
    """Without a session there is no step before it."""
    assert desk.ask("POST", "/v1/act", json=frame).json()["steps"] == {"first": 0, "count": 8}


def test_native_msgpack(desk, picture):
    """float32 rows, and the steps."""
    body = pack({"image": picture, "instruction": "go"})
    reply = unpack(desk.ask("POST", "/v1/act", content=body, headers={"content-type": "application/msgpack"}).content)

    assert np.array_equal(reply["actions"], NARROW)
    assert reply["steps"] == {"first": 0, "count": 8}


def test_openvlas_clients_get_the_first_action(desk, frame):
    """A bare vector, plain or in a string: they play one action a frame and would take rows for numbers."""
    plain, double = desk.act(frame).json(), desk.act({"encoded": json.dumps(frame)}).json()

    assert [decode_array(vector).tolist() for vector in (plain, json.loads(double))] == [CHUNK[0].tolist()] * 2


def test_arrays_may_ask_for_the_whole_chunk(desk, frame):
    """A header turns /act's bare array into the readable object, to the bit; another word in it is a problem."""
    whole = desk.act(frame, **{CHUNK_HEADER: WHOLE_CHUNK}).json()
    wrong = desk.act(frame, **{CHUNK_HEADER: "half"}).json()

    assert (whole["actions"], whole["steps"]) == (CHUNK.tolist(), {"first": 0, "count": 8})
    assert (wrong["code"], wrong["detail"]) == ("bad-field", "X-Stillframe-Chunk is 'half'; expected 'whole', or none.")


def test_the_header_changes_no_other_form(desk, picture):
    """A list of vectors has every action already."""
    frame = {"full_image": encode_array(picture), "instruction": "go"}

    assert len(desk.act(frame, **{CHUNK_HEADER: WHOLE_CHUNK}).json()) == 8


def test_openvla_ofts_clients_get_a_vector_for_each(desk, picture):
    """A list of json_numpy vectors, as many as there are actions."""
    reply = desk.act({"full_image": encode_array(picture), "instruction": "go"}).json()

    assert np.array_equal([decode_array(vector) for vector in reply], CHUNK)


def test_cogacts_clients_get_rows(desk, picture):
    """A bare list of lists, as its server answers where it answers chunks."""
    sink = io.BytesIO()
    PIL.Image.fromarray(picture).save(sink, "PNG")
    form = {"images": sink.getvalue(), "json": json.dumps({"task_description": "go"}).encode()}

    assert desk.ask("POST", "/api/inference", files=form).json() == CHUNK.tolist()


@pytest.mark.parametrize("protocol", [MSGPACK_PROTOCOL, JSON_PROTOCOL])
def test_the_native_stream(desk, sockets, play, picture, protocol):
    """Rows and steps; a client that sends a frame every fourth step numbers it so."""

    async def story():
        async with sockets(desk.app, protocol=protocol) as socket:
            hello = await socket.hear("hello")
            shot = encode_array(picture) if protocol == JSON_PROTOCOL else picture
            frames = [{"session_id": "arm", "seq": seq, "image": shot, "instruction": "go"} for seq in (0, 4)]
            return hello, [await socket.ask("frame", **frame) for frame in frames]

    hello, actions = play(story())

    assert hello["model"]["action"]["execute"] == 4
    expected = CHUNK if protocol == JSON_PROTOCOL else NARROW
    assert all(np.array_equal(action["actions"], expected) for action in actions)
    assert [action["steps"] for action in actions] == [{"first": 0, "count": 8}, {"first": 4, "count": 8}]


@pytest.mark.parametrize("path", ["/", "/roboarena"])
def test_openpis_clients_get_the_array(desk, sockets, play, picture, path):
    """float32 [8, 7], the only array of the reply: its broker slices along the first axis. RoboArena's is bare."""

    async def story():
        async with sockets(desk.app, path, protocol=None) as socket:
            said = unpack(await socket.hear_data())
            socket.put(pack({"observation/image": picture, "prompt": "go", "endpoint": "infer", "session_id": "s"}))
            return said, unpack(await socket.hear_data())

    said, reply = play(story())

    actions = reply if path == "/roboarena" else reply["actions"]
    assert (actions.dtype, actions.shape) == (np.dtype(np.float32), (8, 7))
    assert np.array_equal(actions, NARROW)
    if path == "/":
        assert (said["action_horizon"], said["replan_steps"]) == (8, 4)
        assert [key for key, value in reply.items() if isinstance(value, np.ndarray)] == ["actions"]


def test_slack_reaches_the_policy(desk, frame):
    """What is left of it when the frame has arrived; a frame that says nothing has none, nor has a stateless one."""
    said = [{"session_id": "arm", "slack_ms": 5000}, {"session_id": "arm"}, {"session_id": "arm", "slack_ms": None}, {}]
    for more in [*said, {"slack_ms": 5000}]:
        assert desk.act({**frame, **more}).status_code == 200

    slacks_ms = [session.slack_ms if session else None for session in desk.policy.sessions]
    assert 0 < slacks_ms[0] < 5000
    assert slacks_ms[1:] == [0.0, 0.0, None, None]


@pytest.mark.parametrize("slack_ms", [-1, "long", True, 2e9, [1]], ids=repr)
def test_what_is_no_slack(desk, frame, slack_ms):
    """A time, from 0."""
    problem = desk.act({**frame, "slack_ms": slack_ms}).json()

    assert (problem["code"], problem["errors"][0]["pointer"]) == ("bad-field", "/slack_ms")
    assert "has to be a number from 0 to" in problem["detail"]
