"""A recording as MCAP, one file an episode, for Foxglove and other tools of ROS: messages in JSON with their schemas.

Knows the format; source of the pictures' schema: Foxglove's CompressedImage. Needs the extra export-mcap.

    /camera/NAME            what the policy saw, as PNG
    /camera/NAME/computed   the same with reused patches paled, where the recording says which
    /policy/frame           instruction, state, action, chunk, reuse, drift and latency of the frame
"""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mcap.writer import Writer

from stillframe.domain import Image
from stillframe.recording.pictures import encode_picture
from stillframe.recording.reader import WholeEpisode
from stillframe.tools.export.frames import Advance, ExportedFrame, Warn, exported, json_report, names_of

TIME = {"type": "object", "properties": {"sec": {"type": "integer"}, "nsec": {"type": "integer"}}}
IMAGE = {
    "title": "foxglove.CompressedImage",
    "type": "object",
    "properties": {
        "timestamp": TIME,
        "frame_id": {"type": "string"},
        "data": {"type": "string", "contentEncoding": "base64"},
        "format": {"type": "string"},
    },
}
NUMBERS = {"type": "object", "additionalProperties": {"type": "number"}}
FRAME = {
    "title": "stillframe.Frame",
    "type": "object",
    "properties": {
        "instruction": {"type": "string"},
        "epoch": {"type": "integer"},
        "seq": {"type": "integer"},
        "state": NUMBERS,
        "action": NUMBERS,
        "chunk": {"type": "array", "items": {"type": "array", "items": {"type": "number"}}},
        "mode": {"type": "string"},
        "keyframe_reason": {"type": "string"},
        "stages_ms": NUMBERS,
        **{name: {"type": "number"} for name in ("reuse_ratio", "keyframe", "age_max_frames", "passes", "latency_ms")},
        "drift": {"type": "number", "description": "normalised units; missing where it was not measured"},
    },
}


def export_mcap(episode: WholeEpisode, out: Path, warn: Warn, advance: Advance) -> Path:
    """Write one episode into the folder `out`."""
    file = out / f"{episode.name}.mcap"
    with file.open("wb") as stream:
        log = _Log(stream)
        log.writer.add_metadata("stillframe.episode", _card(episode))
        for frame in exported(episode, warn, advance):
            log.add(episode, frame)
        log.writer.finish()
    return file


class _Log:
    """An open file and its channels, which are made as they are needed."""

    def __init__(self, stream: Any):
        self.writer: Any = Writer(stream)  # half of it has no types
        self.writer.start(library="stillframe")
        self._schemas = {str(schema["title"]): self._schema(schema) for schema in (IMAGE, FRAME)}
        self._channels: dict[str, int] = {}

    def add(self, episode: WholeEpisode, frame: ExportedFrame) -> None:
        """Write a frame's messages."""
        time_ns = round(frame.recorded.submitted_s * 1e9)
        for camera, picture in frame.pictures.items():
            self._picture(f"/camera/{camera}", camera, picture, frame, time_ns)
            overlay = frame.overlay(camera)
            if overlay is not None:
                self._picture(f"/camera/{camera}/computed", camera, overlay, frame, time_ns)
        self._send("/policy/frame", "stillframe.Frame", _message(episode, frame), frame, time_ns)

    def _picture(self, topic: str, camera: str, picture: Image, frame: ExportedFrame, time_ns: int) -> None:
        _, content = encode_picture(camera, picture, "png")
        message = {
            "timestamp": {"sec": time_ns // 10**9, "nsec": time_ns % 10**9},
            "frame_id": camera,
            "data": base64.b64encode(content or b"").decode(),
            "format": "png",
        }
        self._send(topic, "foxglove.CompressedImage", message, frame, time_ns)

    def _send(self, topic: str, schema: str, message: Mapping[str, Any], frame: ExportedFrame, time_ns: int) -> None:
        channel = self._channels.get(topic)
        if channel is None:
            channel = self._channels[topic] = self.writer.register_channel(topic, "json", self._schemas[schema])
        data = json.dumps(message, allow_nan=False).encode()
        self.writer.add_message(channel, time_ns, data, time_ns, sequence=frame.cache.seq)

    def _schema(self, schema: Mapping[str, Any]) -> int:
        return int(self.writer.register_schema(str(schema["title"]), "jsonschema", json.dumps(schema).encode()))


def _message(episode: WholeEpisode, frame: ExportedFrame) -> dict[str, Any]:
    state, chunk = frame.recorded.observation.state, frame.chunk
    numbers = [] if state is None else state.tolist()
    return {
        "instruction": frame.recorded.observation.instruction,
        "epoch": frame.cache.epoch,
        "seq": frame.cache.seq,
        "state": dict(zip(names_of(episode.card.state_names, len(numbers), "state"), numbers, strict=True)),
        "action": dict(
            zip(names_of(episode.card.action_names, chunk.shape[1], "action"), chunk[0].tolist(), strict=True)
        ),
        "chunk": chunk.tolist(),
        **json_report(frame),
    }


def _card(episode: WholeEpisode) -> dict[str, str]:
    card = episode.card
    return {"session": card.session, "epoch": str(card.epoch), "model": card.model}
