"""curl with a JPEG in base64, as a person tries a server out."""

from __future__ import annotations

import base64
import io
import shutil
from collections.abc import Callable
from typing import Any

import httpx
import numpy as np
import PIL.Image
import pytest

pytestmark = pytest.mark.skipif(shutil.which("curl") is None, reason="there is no curl here")

WORDS = "pick up the red cube"


@pytest.fixture
def as_jpegs(tiny: Any, scenes: Any) -> dict[str, list[Any]]:
    """What the native wire answers to the same JPEGs, in another client's hands: JPEG is lossy."""

    def answer(picture: Any) -> Any:
        sink = io.BytesIO()
        PIL.Image.fromarray(picture).save(sink, "JPEG", quality=95)
        body = {"image": base64.b64encode(sink.getvalue()).decode(), "instruction": WORDS}
        return httpx.post(f"{tiny.url}/v1/act", json=body, timeout=60).json()["actions"]

    return {robot: [answer(picture) for picture in pictures] for robot, pictures in scenes.items()}


def test_an_episode(tiny: Any, as_jpegs: Any, connect: Callable[..., Any], play: Callable[..., Any]) -> None:
    """Two robots in turn get a readable reply with the native wire's actions; half a JPEG is a problem."""
    episode = play(connect("json-numpy-2.1.1", "curl", tiny.url))

    for robot, answers in episode.answers.items():
        assert np.array_equal([answer["actions"] for answer in answers], as_jpegs[robot])
        assert all(answer["model"] == "jaco-tiny" for answer in answers)
    assert episode.spoilt["code"] == "image-invalid"
    assert "actions" not in episode.spoilt


def test_both_routes_answer_alike(tiny: Any, scenes: Any, connect: Callable[..., Any]) -> None:
    """/act and /v1/act: the same fields, the same actions."""
    order, picture = connect("json-numpy-2.1.1", "curl", tiny.url), scenes["left"][0]
    replies = [order("left", "act", picture, WORDS, path) for path in ("/act", "/v1/act")]

    assert list(replies[0]) == list(replies[1])
    assert replies[0]["actions"] == replies[1]["actions"]
