"""RoboArena's client: six keys of metadata, an endpoint in every message, a reset that is answered in words."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

PACKAGES = ["openpi-client-0.1.2", "openpi-client-0.1.1"]
KEYS = {
    "image_resolution",
    "needs_wrist_camera",
    "n_external_cameras",
    "needs_stereo_camera",
    "needs_session_id",
    "action_space",
}
WORDS = "pick up the red cube"


@pytest.fixture(params=["listener", "path"])
def address(request: pytest.FixtureRequest, tiny: Any) -> str:
    """Where the profile is: at an address of its own, and under a path."""
    return str(tiny.addresses["roboarena"] if request.param == "listener" else f"{tiny.url}/roboarena")


@pytest.mark.parametrize("packages", [PACKAGES[0], pytest.param(PACKAGES[1], marks=pytest.mark.slow)])
def test_an_episode(
    address: str, natively: Any, connect: Callable[..., Any], play: Callable[..., Any], packages: str
) -> None:
    """Metadata that its own class takes; bare arrays, the native wire's; an error is text, the connection is kept."""
    order = connect(packages, "roboarena", address)
    metadata = order("left", "metadata")
    episode = play(order)

    assert set(metadata) <= KEYS
    assert metadata["action_space"].startswith("cartesian")
    assert (metadata["needs_wrist_camera"], metadata["n_external_cameras"]) == (False, 1)
    for robot, answers in episode.answers.items():
        assert all((answer.dtype, answer.shape) == (np.float32, (1, 7)) for answer in answers)
        assert np.array_equal(answers, natively[robot].astype(np.float32))
    assert episode.spoilt.error == "RuntimeError"
    assert "image-invalid" in episode.spoilt.text


@pytest.mark.parametrize("reset_info", [{}, {"session_id": "38DSA3hd3"}])
def test_reset_begins_an_episode(
    tiny: Any, address: str, scenes: Any, connect: Callable[..., Any], reset_info: dict[str, str]
) -> None:
    """The same picture again is reused; after a reset, named or not, it is whole."""
    order, picture = connect(PACKAGES[0], "roboarena", address), scenes["left"][0]
    before = tiny.frames()
    actions = [order("left", "act", picture, WORDS) for _ in range(2)]
    said = order("left", "reset", reset_info)
    actions.append(order("left", "act", picture, WORDS))

    assert said == "reset successful"
    assert tiny.frames() - before == {"first-frame": 1, "delta": 1, "reset": 1}
    assert np.array_equal(actions, actions[:1] * 3)


def test_sessions_named_by_a_number(tiny: Any, scenes: Any, connect: Callable[..., Any]) -> None:
    """Older evaluations name a session by an array of one number; another number is another robot."""
    order, picture = connect(PACKAGES[0], "roboarena", tiny.addresses["roboarena"]), scenes["left"][0]
    before = tiny.frames()
    for number in (0, 0, 1):
        order("left", "act", picture, WORDS, np.array([number], np.int32))

    assert tiny.frames() - before == {"first-frame": 2, "delta": 1}


def test_two_evaluations_with_one_session_id_are_two_robots(
    tiny: Any, scenes: Any, connect: Callable[..., Any]
) -> None:
    """The id is a connection's own: two connections that happen to use the same one never share a session."""
    order, picture = connect(PACKAGES[0], "roboarena", tiny.addresses["roboarena"]), scenes["left"][0]
    before = tiny.frames()
    for robot in ("left", "right"):
        order(robot, "act", picture, WORDS)

    assert tiny.frames() - before == {"first-frame": 2}
