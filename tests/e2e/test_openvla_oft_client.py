"""OpenVLA-OFT's get_action_from_server and its evaluations' observations, at an address with their profile."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

WORDS = "pick up the red cube"


@pytest.mark.parametrize("packages", ["json-numpy-2.1.1", pytest.param("json-numpy-1.0.1", marks=pytest.mark.slow)])
def test_an_episode(
    tiny: Any, natively: Any, connect: Callable[..., Any], play: Callable[..., Any], packages: str
) -> None:
    """Two robots in turn take the native wire's actions from the list; a bad frame is no list of actions."""
    episode = play(connect(packages, "openvla_oft", tiny.addresses["openvla-oft"]))

    for robot, answers in episode.answers.items():
        assert np.array_equal(answers, natively[robot])
    assert episode.spoilt.error == "TypeError"  # an object cannot be sliced: nothing that could be taken for an action


def test_the_list_holds_vectors(tiny: Any, natively: Any, scenes: Any, connect: Callable[..., Any]) -> None:
    """A float64 vector for each action of the chunk, on any address: the key `full_image` says who asks."""
    actions = connect("json-numpy-2.1.1", "openvla_oft", tiny.url)("left", "raw", scenes["left"][0], WORDS)

    assert isinstance(actions, list)
    assert [(action.dtype, action.shape) for action in actions] == [(np.float64, (7,))]
    assert np.array_equal(actions, natively["left"][0])


def test_the_wrist_that_is_sent_first_is_the_wrist(tiny_wrist: Any, scenes: Any, connect: Callable[..., Any]) -> None:
    """Of ALOHA's two wrists a policy with one wrist camera gets the first; the other one is left aside."""
    front, left, right = scenes["left"][:3]
    actions = connect("json-numpy-2.1.1", "openvla_oft", tiny_wrist.url)("left", "aloha", front, left, right, WORDS)

    assert np.array_equal(actions, tiny_wrist.native({"front": front, "wrist": left}))
    assert not np.array_equal(actions, tiny_wrist.native({"front": front, "wrist": right}))
