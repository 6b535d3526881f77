"""openpi's own client, of two versions, over a current and an old `websockets`, with what openpi's examples send."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import httpx
import numpy as np
import pytest

PACKAGES = ["openpi-client-0.1.2", "openpi-client-0.1.1"]
WORDS = "pick up the red cube"
WAIT_S = 30.0  # bounds what has to happen


@pytest.fixture(params=[PACKAGES[0], pytest.param(PACKAGES[1], marks=pytest.mark.slow)])
def order(request: pytest.FixtureRequest, tiny: Any, connect: Callable[..., Any]) -> Callable[..., Any]:
    """Robots, each with a connection of its own."""
    return connect(request.param, "openpi", tiny.url)  # type: ignore[no-any-return] # a fixture's


def test_the_server_speaks_first(order: Callable[..., Any]) -> None:
    """The constructor returns with the metadata: plain values that say what is served."""
    metadata = order("left", "metadata")

    assert metadata["server"].startswith("stillframe")
    assert metadata["cameras"] == ["image"]
    assert len(metadata["action_names"]) == 7
    assert metadata["action_horizon"] == 1


def test_an_episode(natively: Any, order: Callable[..., Any], play: Callable[..., Any]) -> None:
    """Two robots in turn get the native wire's actions; an error raises what it is, and the connection goes on."""
    episode = play(order)

    for robot, answers in episode.answers.items():
        assert all((answer["actions"].dtype, answer["actions"].shape) == (np.float32, (1, 7)) for answer in answers)
        assert np.array_equal([answer["actions"] for answer in answers], natively[robot].astype(np.float32))
    assert episode.spoilt.error == "RuntimeError"
    assert episode.spoilt.text.startswith("Error in inference server:\nimage-invalid: ")
    assert len(episode.spoilt.text.splitlines()) == 2  # one line of ours: never a traceback


@pytest.mark.parametrize("kind", ["libero", "droid", "aloha"])
def test_each_examples_observation(natively: Any, scenes: Any, order: Callable[..., Any], kind: str) -> None:
    """LIBERO's, DROID's and ALOHA's keys: the camera that is no wrist is ours, channels first or last."""
    reply = order("left", "act", scenes["left"][0], WORDS, kind)

    assert np.array_equal(reply["actions"], natively["left"][0].astype(np.float32))
    assert [key for key, value in reply.items() if isinstance(value, np.ndarray)] == ["actions"]


@pytest.mark.parametrize("kind", ["libero", "droid", "aloha"])
def test_wrist_to_wrist(tiny_wrist: Any, scenes: Any, connect: Callable[..., Any], kind: str) -> None:
    """A policy with a wrist camera gets the observation's wrist, which is black here, whatever comes before it."""
    front = scenes["left"][0]
    reply = connect(PACKAGES[0], "openpi", tiny_wrist.url)("left", "act", front, WORDS, kind)
    native = tiny_wrist.native({"front": front, "wrist": np.zeros_like(front)})

    assert np.array_equal(reply["actions"], native.astype(np.float32))


def test_timings_are_numbers(scenes: Any, order: Callable[..., Any]) -> None:
    """simple_client averages every value of both maps; the previous total is there from the second reply on."""
    recorded = order("left", "timings", scenes["left"][0], WORDS, 3)

    assert {"server_timing.infer_ms", "server_timing.prev_total_ms", "policy_timing.infer_ms"} <= set(recorded)
    assert all(milliseconds > 0 for milliseconds in recorded.values())


def test_liberos_loop(natively: Any, scenes: Any, order: Callable[..., Any]) -> None:
    """It takes as many actions of a chunk as it replans after; with more than there are it says so itself."""
    taken = order("left", "episode", scenes["left"], WORDS, 1)
    wanting = order("left", "episode", scenes["left"], WORDS, 5)

    assert np.array_equal(taken, natively["left"][:, 0].astype(np.float32))
    assert wanting.error == "AssertionError"


def test_openpis_runtime(natively: Any, scenes: Any, order: Callable[..., Any]) -> None:
    """Runtime, agent and chunk broker drive two episodes; every array is sliced to the action due now."""
    applied = order("left", "run", scenes["left"], WORDS, 2)
    episode = list(natively["left"][:, 0].astype(np.float32))

    assert np.array_equal(applied, episode * 2)


@pytest.mark.parametrize("said", ["in a frame", "by itself"])
def test_reset_begins_an_episode(tiny: Any, scenes: Any, order: Callable[..., Any], said: str) -> None:
    """A connection is a robot: the same picture again is reused; after a reset it is whole."""
    picture, before = scenes["left"][0], tiny.frames()
    replies = [order("left", "act", picture, WORDS) for _ in range(2)]
    if said == "in a frame":
        replies.append(order("left", "with_keys", picture, WORDS, {"reset": True}))
    else:
        assert order("left", "reset") == {"status": "reset successful"}
        replies.append(order("left", "act", picture, WORDS))

    assert tiny.frames() - before == {"first-frame": 1, "delta": 1, "reset": 1}
    assert np.array_equal([reply["actions"] for reply in replies], [replies[0]["actions"]] * 3)


@pytest.mark.parametrize("key", ["env_id", "session_id"])
def test_one_connection_several_robots(tiny: Any, scenes: Any, order: Callable[..., Any], key: str) -> None:
    """Scenes that are told apart by a key have sessions of their own, whatever the connection."""
    before = tiny.frames()
    for name in ("a", "b", "b"):
        order("left", "with_keys", scenes["left"][0], WORDS, {key: name})

    assert tiny.frames() - before == {"first-frame": 2, "delta": 1}


def test_simulators_scenes_live_side_by_side(tiny: Any, scenes: Any, order: Callable[..., Any]) -> None:
    """Frames of two env_ids in turn reuse each their own; a reset of one leaves the other as it is."""
    before = tiny.frames()
    for number in (0, 1, 0, 1):
        order("left", "with_keys", scenes["left"][number], WORDS, {"env_id": number})
    for number in range(2):
        order("left", "with_keys", scenes["left"][number], WORDS, {"env_id": number, "reset": number == 0})

    assert tiny.frames() - before == {"first-frame": 2, "delta": 3, "reset": 1}


def test_numpy_scalars_are_what_they_hold(tiny: Any, scenes: Any, order: Callable[..., Any]) -> None:
    """An env_id out of an array of ids, a done flag out of an array of flags: openpi's client sends numpy scalars."""
    before = tiny.frames()
    ids, done = np.arange(2), np.array([True, False])
    for keys in ({"env_id": ids[1]}, {"env_id": ids[1], "reset": done[0]}):
        order("left", "with_keys", scenes["left"][0], WORDS, keys)

    assert tiny.frames() - before == {"first-frame": 1, "reset": 1}


def test_a_connection_leaves_with_its_session(tiny: Any, scenes: Any, order: Callable[..., Any]) -> None:
    """Two connections are two sessions of `GET /v1/sessions`; the one that is closed takes its session along."""
    others = {session["id"] for session in tiny.sessions()}
    for robot in ("left", "right"):
        order(robot, "act", scenes[robot][0], WORDS)
    both = {session["id"] for session in tiny.sessions()} - others
    order("left", "close")
    give_up_s = time.monotonic() + WAIT_S
    while len(left := {session["id"] for session in tiny.sessions()} & both) > 1 and time.monotonic() < give_up_s:
        time.sleep(0.05)

    assert len(both) == 2
    assert len(left) == 1


def test_health_as_openpi_asks(tiny: Any) -> None:
    """GET /healthz answers openpi's text."""
    answer = httpx.get(f"{tiny.url}/healthz")

    assert (answer.status_code, answer.text) == (200, "OK\n")
