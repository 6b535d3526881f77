"""What is fixed for the clients of a port: each of the wires obeys it, and /v1/models shows it."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import msgpack
import numpy as np
import pytest
from starlette.testclient import TestClient

from stillframe.errors import ConfigError
from stillframe.web.app import WebSettings
from stillframe.web.middleware.listeners import Listener
from stillframe.web.middleware.start_options import StartOptions
from stillframe_client.wire import encode_array, pack, unpack

FIXED, PLAIN = 8001, 8002  # ports
TERMS = StartOptions("openpi", "bridge_orig", {"front": "cam_low"}, 0.9)
LOW, HIGH = np.full((8, 8, 3), 7, np.uint8), np.full((8, 8, 3), 9, np.uint8)


@pytest.fixture
def desk(new_desk: Callable[..., Any]) -> Any:
    """A daemon with a port of such clients and one of others; the policy has no default statistics."""
    info = replace(new_desk().policy.info, default_unnorm_key=None)
    return new_desk(
        info=info, settings=WebSettings(listeners={FIXED: Listener(start_options=TERMS), PLAIN: Listener()})
    )


def url(port: int, path: str) -> str:
    """Through which door."""
    return f"http://localhost:{port}{path}"


def seen(desk: Any) -> tuple[Any, ...]:
    """What the policy saw last: a picture's first number, statistics, crop."""
    last = desk.policy.seen[-1]
    return next(iter(last.images.values()))[0, 0, 0], last.unnorm_key, last.center_crop


@pytest.mark.parametrize("path", ["/act", "/v1/act", "/v1/sessions/arm/act"])
def test_posted_frames(desk: Any, path: str) -> None:
    """A picture under the key that is fixed, statistics and crop of the port; a frame may name other statistics."""
    body = {"images": {"cam_low": encode_array(LOW)}, "instruction": "go up"}
    fixed = desk.ask("POST", url(FIXED, path), json=body)
    assert (fixed.status_code, seen(desk)) == (200, (7, "bridge_orig", 0.9)), fixed.text
    named = desk.ask("POST", url(FIXED, path), json={**body, "unnorm_key": "jaco"})
    assert (named.status_code, seen(desk)) == (200, (7, "jaco", 0.9))

    assert json.loads(fixed.headers["x-stillframe-cameras"]) == {"front": "cam_low"}
    assert desk.ask("POST", url(PLAIN, path), json=body).json()["code"] == "unknown-camera"
    body["images"] = {"front": encode_array(LOW)}
    assert desk.ask("POST", url(PLAIN, path), json=body).json()["code"] == "unknown-unnorm-key"


def test_a_form_finds_its_statistics(desk: Any) -> None:
    """CogACT's client cannot name any."""
    png = desk_png(HIGH)
    files = {"images": ("x.png", png, "image/png"), "json": ("j", b'{"task_description": "go up"}', "application/json")}
    refused = desk.ask("POST", url(PLAIN, "/api/inference"), files=files)
    fixed = replace(TERMS, cameras={})
    desk.settings.listeners[FIXED] = Listener(start_options=fixed)
    answered = desk.ask("POST", url(FIXED, "/api/inference"), files=files)

    assert (refused.status_code, answered.status_code) == (422, 200)
    assert seen(desk) == (9, "bridge_orig", 0.9)


def desk_png(pixels: np.ndarray) -> bytes:
    """A lossless file."""
    import io

    import PIL.Image

    sink = io.BytesIO()
    PIL.Image.fromarray(pixels).save(sink, "PNG")
    return sink.getvalue()


def test_openpis_wire(desk: Any) -> None:
    """The first message says what is fixed; the camera is found by the key that is."""
    observation = pack({"images": {"cam_high": HIGH, "cam_low": LOW}, "prompt": "go up"})
    desk.settings.listeners[FIXED] = Listener(start_options=replace(TERMS, cameras={"front": "images/cam_low"}))
    with TestClient(desk.app, base_url=url(FIXED, "")).websocket_connect(f"ws://localhost:{FIXED}/") as socket:
        said = msgpack.unpackb(socket.receive_bytes())
        socket.send_bytes(observation)
        socket.receive_bytes()

    assert seen(desk) == (7, "bridge_orig", 0.9)
    assert said["camera_keys"] == {"front": "images/cam_low"}
    assert (said["unnorm_key"], said["center_crop"]) == ("bridge_orig", 0.9)


def test_frames_without_an_instruction(desk: Any) -> None:
    """They do what the port is for, in a session until it has one of its own; /v1/models says so."""
    fixed = StartOptions(unnorm_key="jaco", default_instruction="hold it")
    desk.settings.listeners[FIXED] = Listener(start_options=fixed)
    silent = {"image": encode_array(LOW)}
    words = {"instruction": "go up"}
    for body in (silent, {**silent, "session_id": "arm"}, {**silent, **words, "session_id": "arm"}):
        assert desk.ask("POST", url(FIXED, "/v1/act"), json=body).status_code == 200
    assert desk.ask("POST", url(FIXED, "/v1/act"), json={**silent, "session_id": "arm"}).status_code == 200
    png = {"images": ("x.png", desk_png(HIGH), "image/png"), "json": ("j", b"{}", "application/json")}
    assert desk.ask("POST", url(FIXED, "/api/inference"), files=png).status_code == 200
    with TestClient(desk.app, base_url=url(FIXED, "")).websocket_connect(f"ws://localhost:{FIXED}/") as socket:
        socket.receive_bytes()
        socket.send_bytes(pack({"images": {"cam_high": HIGH}}))
        socket.receive_bytes()
    refused = desk.ask("POST", url(PLAIN, "/v1/act"), json={**silent, "unnorm_key": "jaco"}).json()
    cards = [desk.ask("GET", url(port, "/v1/models")).json()["models"][0] for port in (FIXED, PLAIN)]

    assert [each.instruction for each in desk.policy.seen] == [
        "hold it",
        "hold it",
        "go up",
        "go up",
        "hold it",
        "hold it",
    ]
    assert (refused["code"], refused["errors"][0]["pointer"]) == ("missing-field", "/instruction")
    assert [card["default_instruction"] for card in cards] == ["hold it", None]


@pytest.mark.parametrize("path", ["/", "/roboarena"])
def test_openpis_first_message_has_what_the_deployment_adds(desk: Any, path: str) -> None:
    """Beside the daemon's own members, and in their place; RoboArena's takes no more than its six."""
    fixed = StartOptions("openpi", openpi_metadata={"reset_pose": [0, -1.5], "action_horizon": 4})
    desk.settings.listeners[FIXED] = Listener(start_options=fixed)
    with TestClient(desk.app, base_url=url(FIXED, "")).websocket_connect(f"ws://localhost:{FIXED}{path}") as socket:
        said = msgpack.unpackb(socket.receive_bytes())
    (card,) = desk.ask("GET", url(FIXED, "/v1/models")).json()["models"]

    assert card["openpi_metadata"] == fixed.openpi_metadata
    if path == "/":
        assert (said["reset_pose"], said["action_horizon"], said["server"]) == ([0, -1.5], 4, "stillframe")
    else:
        assert len(said) == 6
        assert "reset_pose" not in said


def test_the_native_stream(desk: Any) -> None:
    """Hello says what is fixed, and frames obey it; the answer says which picture was whose."""
    with TestClient(desk.app).websocket_connect(f"ws://localhost:{FIXED}/v1/stream") as socket:
        hello = unpack(socket.receive_bytes())
        frame = {"type": "frame", "session_id": "arm", "images": {"cam_low": LOW}, "instruction": "go up"}
        socket.send_bytes(pack(frame))
        answer = unpack(socket.receive_bytes())

    assert hello["model"]["default_unnorm_key"] == "bridge_orig"
    assert (answer["type"], answer["cameras"]) == ("action", {"front": "cam_low"})
    assert seen(desk) == (7, "bridge_orig", 0.9)


def test_models_shows_what_is_fixed_for_who_asks(desk: Any) -> None:
    """Each port its own; a crop of all is none."""
    fixed, plain = (desk.ask("GET", url(port, "/v1/models")).json()["models"][0] for port in (FIXED, PLAIN))
    one = desk.ask("GET", url(FIXED, "/v1/models/echo")).json()
    desk.settings.listeners[FIXED] = Listener(start_options=StartOptions(center_crop=1.0))
    whole = desk.ask("GET", url(FIXED, "/v1/models")).json()["models"][0]

    assert fixed == one
    assert (fixed["profile"], fixed["default_unnorm_key"]) == ("openpi", "bridge_orig")
    assert (fixed["observation"]["camera_keys"], fixed["observation"]["center_crop"]) == ({"front": "cam_low"}, 0.9)
    assert (plain["profile"], plain["default_unnorm_key"]) == ("native", None)
    assert (plain["observation"]["camera_keys"], plain["observation"]["center_crop"]) == ({}, None)
    assert whole["observation"]["center_crop"] is None


def test_what_a_policy_has_not_is_refused(desk: Any) -> None:
    """Both faults at once, with what there is and what was meant."""
    with pytest.raises(ConfigError) as caught:
        StartOptions(unnorm_key="bridge", cameras={"fornt": "a"}).check(desk.policy.info, "listeners.2")

    assert str(caught.value) == (
        "listeners.2: unnorm_key is 'bridge'; echo has statistics for bridge_orig, jaco. Did you mean 'bridge_orig'?; "
        "cameras names a camera 'fornt'; echo has front. Did you mean 'front'?"
    )
    StartOptions(unnorm_key="jaco", cameras={"front": "a"}).check(desk.policy.info, "")
