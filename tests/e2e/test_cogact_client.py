"""CogACT's documented client: a form with a picture and the task, at an address with its profile."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np


def test_an_episode(tiny: Any, natively: Any, connect: Callable[..., Any], play: Callable[..., Any]) -> None:
    """Two robots in turn get bare lists of seven numbers, the native wire's; half a PNG is a problem."""
    episode = play(connect("json-numpy-2.1.1", "cogact", tiny.addresses["cogact"]))

    for robot, answers in episode.answers.items():
        assert all(type(number) is float for answer in answers for number in answer)
        assert np.array_equal(answers, natively[robot][:, 0])
    assert episode.spoilt.error == "RuntimeError"
    assert episode.spoilt.text.startswith("4")
    assert "image-invalid" in episode.spoilt.text
