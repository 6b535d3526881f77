"""Each recorded request and message is answered with the bytes that its client knows how to read."""

from __future__ import annotations

import json
import struct
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgpack
import numpy as np
import pytest
from starlette.testclient import TestClient

from stillframe.testing import state_info

HERE = Path(__file__).parent
WORDS = "pick up the red cube"
SEEN = [8.0, 8.0, 0.0, 1.0, 2.0, float(len(WORDS)), 1.0]  # what the echoing policy answers to the recorded picture
VECTOR = "AAAAAAAAIEAAAAAAAAAgQAAAAAAAAAAAAAAAAAAA8D8AAAAAAAAAQAAAAAAAADRAAAAAAAAA8D8="  # the same in float64, base64
ARRAY = f'{{"__numpy__":"{VECTOR}","dtype":"<f8","shape":[7]}}'
# openpi's bytes of {"actions": float32 (1, 7), ...} as far as the next key; notes of its codec are the source.
ACTIONS = (
    b"\xa7actions\x84\xc4\x0b__ndarray__\xc3\xc4\x04data\xc4\x1c"
    + struct.pack("<7f", *SEEN)
    + b"\xc4\x05dtype\xa3<f4\xc4\x05shape\x92\x01\x07"
)


def replayed(desk: Any, name: str) -> Any:
    """The answer to a recorded request: its head and its body as they were, but for the name of the host."""
    head, _, body = (HERE / f"{name}.http").read_bytes().partition(b"\r\n\r\n")
    request, *lines = head.decode().split("\r\n")
    method, path, _ = request.split(" ")
    headers = dict(line.split(": ", 1) for line in lines if not line.startswith("Host: "))
    return desk.ask(method, path, content=body, headers=headers)


@pytest.mark.parametrize("name", ["openvla", "openvla-key", "openvla-null-key", "auto-eval"])
def test_a_bare_array(desk: Any, name: str) -> None:
    """OpenVLA's snippet and auto_eval's client get one json_numpy vector, in the bytes of OpenVLA's own server."""
    reply = replayed(desk, name)

    assert (reply.status_code, reply.content) == (200, ARRAY.encode())
    assert reply.headers["content-type"] == "application/json"


def test_text_in_a_string(desk: Any) -> None:
    """Double-encoded in, double-encoded out."""
    reply = replayed(desk, "openvla-double")

    assert reply.status_code == 200
    assert json.loads(json.loads(reply.content)) == json.loads(ARRAY)


@pytest.mark.parametrize("name", ["openvla-oft", "openvla-oft-aloha"])
def test_a_list_of_arrays(desk: Any, name: str) -> None:
    """OpenVLA-OFT's clients get a list of json_numpy vectors; a policy without a wrist camera never sees a wrist."""
    reply = replayed(desk, name)

    assert (reply.status_code, reply.content) == (200, f"[{ARRAY}]".encode())
    assert list(desk.policy.seen[-1].images) == ["front"]


def test_the_first_wrist_is_the_wrist(new_desk: Callable[..., Any], desk: Any) -> None:
    """ALOHA's left wrist comes first in the recorded object, and is what a policy with a wrist camera sees."""
    two = new_desk(info=replace(desk.policy.info, cameras=("front", "wrist")))
    reply = replayed(two, "openvla-oft-aloha")
    seen = two.policy.seen[-1].images
    picture = np.arange(192, dtype=np.uint8).reshape(8, 8, 3)

    assert reply.status_code == 200
    assert np.array_equal(seen["front"], picture)
    assert np.array_equal(seen["wrist"], picture[::-1])


@pytest.mark.parametrize("name", ["openvla-oft.http", "openpi-libero.msgpack", "openpi-droid.msgpack"])
def test_the_recorded_state(new_desk: Callable[..., Any], desk: Any, name: str) -> None:
    """A policy that reads eight numbers gets those of LIBERO's and DROID's observations, to the bit."""
    needy = new_desk(info=replace(desk.policy.info, state=state_info(*(f"s{at}" for at in range(8)))))
    if name.endswith(".http"):
        assert replayed(needy, name.removesuffix(".http")).status_code == 200
    else:
        with TestClient(needy.app).websocket_connect("ws://localhost/") as socket:
            socket.receive_bytes()
            socket.send_bytes((HERE / name).read_bytes())
            socket.receive_bytes()

    assert needy.policy.seen[-1].state.tolist() == [at / 8 for at in range(8)]


def test_a_reset_that_names_nobody(desk: Any) -> None:
    """auto_eval's reset has no body: 200, and nothing is reset."""
    reply = replayed(desk, "auto-eval-reset")

    assert (reply.status_code, reply.json()) == (200, {"session_id": None, "epoch": None})


def test_a_form(desk: Any) -> None:
    """CogACT's client gets a bare list of numbers."""
    reply = replayed(desk, "cogact")

    assert (reply.status_code, reply.json()) == (200, SEEN)


def test_a_jpeg_in_base64(desk: Any) -> None:
    """Curl gets a readable object."""
    reply = replayed(desk, "curl")

    assert reply.status_code == 200
    assert list(reply.json())[:4] == ["actions", "unnorm_key", "model", "timing_ms"]
    assert desk.policy.seen[-1].images["front"].shape == (8, 8, 3)


def test_msgpack_over_http(desk: Any) -> None:
    """msgpack-numpy's arrays are read, and the answer is msgpack with openpi's."""
    reply = replayed(desk, "msgpack-numpy")

    assert (reply.status_code, reply.headers["content-type"]) == (200, "application/msgpack")
    assert ACTIONS in reply.content


class Socket:
    """A client's connection, as it was opened by the recorded upgrade."""

    def __init__(self, desk: Any, path: str) -> None:
        head = (HERE / "openpi-upgrade.http").read_text().split("\n\n")[0]
        agent = next(line for line in head.split("\n") if line.startswith("User-Agent"))
        self.client = TestClient(desk.app)
        self.session = self.client.websocket_connect(f"ws://localhost{path}", headers=dict([agent.split(": ", 1)]))

    def __enter__(self) -> Socket:
        self.socket = self.session.__enter__()
        return self

    def __exit__(self, *error: object) -> None:
        self.session.__exit__(*error)

    def say(self, name: str) -> bytes | str:
        """Send a recorded message, return what comes back as it is."""
        self.socket.send_bytes((HERE / f"{name}.msgpack").read_bytes())
        return self.hear()

    def hear(self) -> bytes | str:
        """The next message."""
        message = self.socket.receive()
        return message["bytes"] if message.get("bytes") is not None else message["text"]


@pytest.mark.parametrize("name", ["openpi-libero", "openpi-droid", "openpi-aloha", "msgpack-numpy"])
def test_openpis_reply(desk: Any, name: str) -> None:
    """Metadata first, unasked; then a map whose only array is the chunk, with timings that are numbers."""
    with Socket(desk, "/") as socket:
        metadata = msgpack.unpackb(socket.hear())
        reply = socket.say(name)
    document = msgpack.unpackb(reply)

    assert metadata["cameras"] == ["front"]
    assert reply[1:].startswith(ACTIONS)
    assert set(document) == {"actions", "policy_timing", "server_timing"}
    assert all(
        type(number) is float for kind in ("policy_timing", "server_timing") for number in document[kind].values()
    )


def test_openpis_sessions_and_resets(desk: Any) -> None:
    """A session by name is another robot than the connection's own; a reset in a frame, and one by itself."""
    with Socket(desk, "/") as socket:
        socket.hear()
        for name in ("openpi-libero", "openpi-session", "openpi-libero", "openpi-reset-in-frame"):
            assert isinstance(socket.say(name), bytes)
        assert msgpack.unpackb(socket.say("openpi-reset")) == {"status": "reset successful"}
        socket.say("openpi-libero")
    pointers = [(session.id, session.epoch, session.seq) for session in desk.policy.sessions]
    own, named = pointers[0][0], pointers[1][0]

    assert own != named
    assert pointers == [(own, 0, 0), (named, 0, 0), (own, 0, 1), (own, 1, 0), (own, 2, 0)]


def test_roboarenas_reply(desk: Any) -> None:
    """Six keys and no more; the bare array; words after a reset."""
    with Socket(desk, "/roboarena") as socket:
        metadata = msgpack.unpackb(socket.hear())
        reply, said = socket.say("roboarena-infer"), socket.say("roboarena-reset")

    assert list(metadata) == [
        "image_resolution",
        "needs_wrist_camera",
        "n_external_cameras",
        "needs_stereo_camera",
        "needs_session_id",
        "action_space",
    ]
    assert reply == ACTIONS.removeprefix(b"\xa7actions")
    assert said == "reset successful"
