"""Clients of their users' own making on msgpack-numpy, over the WebSocket in openpi's words and over HTTP in ours."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

WORDS = "pick up the red cube"


def test_an_episode(tiny: Any, natively: Any, connect: Callable[..., Any], play: Callable[..., Any]) -> None:
    """Arrays of that form are pictures like any other: the native wire's actions in float32, an error is text."""
    episode = play(connect("json-numpy-2.1.1", "lebedov", tiny.url))

    for robot, answers in episode.answers.items():
        assert all(answer.dtype == np.float32 for answer in answers)
        assert np.array_equal(answers, natively[robot].astype(np.float32))
    assert episode.spoilt.text.startswith("image-invalid: ")


def test_native_over_http(tiny: Any, natively: Any, scenes: Any, connect: Callable[..., Any]) -> None:
    """POST /v1/act takes and answers msgpack."""
    actions = connect("json-numpy-2.1.1", "lebedov", tiny.url)("left", "post", scenes["left"][0], WORDS)

    assert actions.dtype == np.float32
    assert np.array_equal(actions, natively["left"][0].astype(np.float32))
