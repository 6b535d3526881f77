"""auto_eval's OpenWebClient: arrays over a kept connection, a reset before each episode."""

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
    """Reset, an episode, reset, another: the native wire's actions; a bad frame raises, and the next is answered."""
    order = connect(packages, "auto_eval", tiny.url)
    resets, episodes = [], []
    for _ in range(2):
        resets += [order(robot, "reset") for robot in ("left", "right")]
        episodes.append(play(order))

    assert resets == [200] * 4
    for episode in episodes:
        assert all(np.array_equal(answers, natively[robot][:, 0]) for robot, answers in episode.answers.items())
        assert episode.spoilt.error == "RuntimeError"
        assert "image-invalid" in episode.spoilt.text


def test_a_reset_begins_an_episode_where_the_address_has_a_session(
    tiny: Any, natively: Any, scenes: Any, connect: Callable[..., Any]
) -> None:
    """At an address whose frames belong to one robot its frames reuse each other, until it says reset."""
    order, picture = connect("json-numpy-2.1.1", "auto_eval", tiny.addresses["arm-1"]), scenes["left"][0]
    order("arm", "reset")
    before = tiny.frames()
    actions = [order("arm", "act", picture, WORDS) for _ in range(2)]
    order("arm", "reset")
    actions.append(order("arm", "act", picture, WORDS))
    kinds = tiny.frames() - before

    assert np.array_equal(actions, [natively["left"][0, 0]] * 3)
    assert kinds["delta"] == 1
    assert kinds["reset"] + kinds["first-frame"] == 2
    assert kinds["reset"] >= 1
