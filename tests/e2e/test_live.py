"""The live page's feed of a real daemon: what a watcher is told is what the frame's own reply says."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import httpx
import numpy as np
import pytest

from stillframe_client.wire import encode_array

WAIT_S = 60.0
PATCHES = 256  # of each camera


def events(lines: Iterator[str]) -> Iterator[tuple[str, Any]]:
    """Name and document of each event."""
    for line in lines:
        if line.startswith("event: "):
            yield line.removeprefix("event: "), json.loads(next(lines).removeprefix("data: "))


@pytest.mark.usefixtures("tiny", "tiny_wrist")  # by which it is handed to the worker that has them
@pytest.mark.parametrize("cameras", [1, 2])
def test_a_watcher_sees_what_the_robot_is_told(request: pytest.FixtureRequest, cameras: int) -> None:
    """A frame's reuse, passes and action are the reply's; as many patches are reused as it says."""
    served = request.getfixturevalue("tiny" if cameras == 1 else "tiny_wrist")
    (card,) = httpx.get(f"{served.url}/v1/models", timeout=WAIT_S).json()["models"]
    names, session = card["observation"]["cameras"], f"watched-{cameras}"
    picture = np.random.default_rng(3).integers(0, 255, (224, 224, 3), dtype=np.uint8)
    body = {
        "images": {name: encode_array(picture) for name in names},
        "instruction": "pick up the red cube",
        "session_id": session,
    }

    def act() -> dict[str, Any]:
        return dict(httpx.post(f"{served.url}/v1/act", json=body, timeout=WAIT_S).raise_for_status().json())

    replies = [act()]
    with httpx.stream("GET", f"{served.url}/live/feed", params={"session": session}, timeout=WAIT_S) as feed:
        told, pictured = [], None
        for name, document in events(feed.iter_lines()):
            if name == "frames":
                told += [one for one in document if "cache" in one]
                if len(told) == 1:
                    replies.append(act())
            if name == "picture":
                pictured = document
                break

    assert [one["cache"] for one in told] == [reply["cache"] for reply in replies]
    assert [one["action"] for one in told] == [reply["actions"][0] for reply in replies]
    assert pictured is not None
    assert (pictured["seq"], pictured["instruction"]) == (1, body["instruction"])
    assert [camera["name"] for camera in pictured["cameras"]] == names
    assert {(camera["rows"], camera["columns"], camera["width"]) for camera in pictured["cameras"]} == {(16, 16, 224)}
    reused = sum(camera["patches"].count("0") for camera in pictured["cameras"])
    assert reused + 1 == told[1]["cache"]["reused_tokens"]  # the first row, which is no patch, is reused as well
    assert reused <= cameras * PATCHES
