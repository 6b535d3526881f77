"""MCAP, opened by its own reader."""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from stillframe.recording.frame import RecordedFrame

pytest.importorskip("mcap", reason="needs the extra export-mcap")

from mcap.reader import make_reader

Messages = dict[str, list[tuple[int, dict[str, Any]]]]


def opened(file: Path) -> tuple[Messages, dict[str, str], dict[str, str]]:
    """Topic -> its messages and their times; topic -> its schema; metadata."""
    messages: Messages = {}
    schemas = {}
    with file.open("rb") as stream:
        reader = make_reader(stream)
        for schema, channel, message in reader.iter_messages():
            schemas[channel.topic] = schema.name
            messages.setdefault(channel.topic, []).append((message.log_time, json.loads(message.data)))
        (metadata,) = reader.iter_metadata()
    return messages, schemas, metadata.metadata


def decoded(message: dict[str, Any]) -> np.ndarray:
    """The picture of a message."""
    assert message["format"] == "png"
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(message["data"]))))


def test_every_frame_is_there(exported: Callable[..., list[Path]], frames: list[RecordedFrame]) -> None:
    """A file an episode; pictures to the bit, by the schema that Foxglove draws; figures by name, at their time."""
    first, second = exported("mcap")
    messages, schemas, metadata = opened(first)
    policy = messages["/policy/frame"]

    assert metadata == {"session": "arm", "epoch": "0", "model": "toy"}
    assert {topic: len(sent) for topic, sent in messages.items()} == {
        **dict.fromkeys(("/camera/front", "/camera/wrist", "/camera/front/computed", "/camera/wrist/computed"), 3),
        "/policy/frame": 3,
    }
    assert {schemas[topic] for topic in schemas if topic.startswith("/camera")} == {"foxglove.CompressedImage"}
    for (time_ns, sent), (_, image), frame in zip(policy, messages["/camera/front"], frames[:3], strict=True):
        assert time_ns == round(frame.submitted_s * 1e9)
        assert image["timestamp"]["sec"] == int(frame.submitted_s)
        assert np.array_equal(decoded(image), frame.observation.images["front"])
        assert sent["chunk"] == frame.step.chunk.actions.tolist()
        assert sent["action"]["dz"] == frame.step.chunk.actions[0, 2]
        assert sent["state"] == {"x [m]": frame.observation.state[0], "grip": 1.0}
    assert [sent.get("drift") for _, sent in policy] == [0.5, 0.25, None]
    assert [sent["keyframe_reason"] for _, sent in policy] == ["first-frame", "", ""]
    assert policy[1][1]["stages_ms"] == {"queue": 1.0, "decode": 3.0}
    assert len(opened(second)[0]["/policy/frame"]) == 2


def test_computed_patches_stand_out(exported: Callable[..., list[Path]]) -> None:
    """The overlay differs from the picture where patches were reused, and there alone."""
    messages, _, _ = opened(exported("mcap")[0])
    seen, computed = (decoded(messages[topic][1][1]) for topic in ("/camera/front", "/camera/front/computed"))
    differs = (seen != computed).any(axis=2)

    assert differs[:8, :12].all()
    assert differs.sum() == 3 * 8 * 12
