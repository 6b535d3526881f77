"""openpi's clients and their kin: observation keys of the policy's own choosing in, `actions` and timings out.

Knows no socket. Source: Physical-Intelligence/openpi src/openpi/serving, packages/openpi-client; robo-arena/roboarena.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stillframe.domain import PolicyInfo
from stillframe.web.dialects.base import Answer, Fields, Said, finite
from stillframe.web.dialects.cameras import placed
from stillframe.web.reading.headers import JPEG_HEAD, PNG_HEAD

RESET_DONE = "reset successful"
_WORDS = ("prompt", "instruction", "task")
_NESTED = ("images", "observation")  # maps that hold the pictures, as ALOHA's clients send them
_PASSED_ON = ("unnorm_key", "max_age_ms", "reuse")  # ours, for those who know us


@dataclass(frozen=True)
class OpenPI:
    """The reply of openpi's own server: a map whose only array is the chunk, and timings that are numbers."""

    name: str = "openpi"

    def translate(self, fields: Fields, info: PolicyInfo) -> Said:
        """Find the pictures and the words among the observation's keys; joint states are for policies that ask."""
        pictures = {key: as_picture(value) for key, value in _flat(fields) if is_picture(value)}
        rest: dict[str, Any] = {key: fields[key] for key in _PASSED_ON if key in fields}
        said = placed(pictures, rest, info)
        words = next((key for key in _WORDS if key in fields), None)
        if words is None:
            return Said(said.fields, {**said.places, "/instruction": "/prompt"})
        places = {**said.places, "/instruction": f"/{words}"}
        return Said({**said.fields, "instruction": _text(fields[words])}, places)

    def write(self, answer: Answer) -> Any:
        """`actions` float32 [horizon, action_dim]; its clients slice every array they find along its first axis."""
        total_ms = float(answer.timing_ms["total"])
        policy_ms = total_ms - float(answer.timing_ms.get("queue", 0.0))
        return {
            "actions": finite(answer.chunk).actions.astype("<f4"),
            "policy_timing": {"infer_ms": policy_ms},
            "server_timing": {"infer_ms": total_ms, **answer.echo},
        }

    def reset_done(self) -> Any:
        """What a reset is answered with: a map, for openpi's own client takes any text for an error."""
        return {"status": RESET_DONE}

    def metadata(self, info: PolicyInfo) -> dict[str, Any]:
        """What the server says first; free-form for this dialect."""
        return {
            "server": "stillframe",
            "policy": info.name,
            "cameras": list(info.cameras),
            "image_size": list(info.image_size),
            "action_names": list(info.action_names),
            "action_horizon": info.chunk_horizon,
            "gripper": info.gripper,
        }


@dataclass(frozen=True)
class RoboArena(OpenPI):
    """RoboArena's evaluation clients: six keys of metadata, no more, and the bare array as the reply."""

    name: str = "roboarena"

    def write(self, answer: Answer) -> NDArray[np.float32]:
        """float32 [horizon, action_dim]."""
        return finite(answer.chunk).actions.astype("<f4")

    def reset_done(self) -> Any:
        """The words of its own server, as text."""
        return RESET_DONE

    def metadata(self, info: PolicyInfo) -> dict[str, Any]:
        """The members of its PolicyServerConfig: clients build that from this map, and fall over any other key."""
        wrist = sum("wrist" in camera for camera in info.cameras)
        return {
            "image_resolution": list(info.image_size),
            "needs_wrist_camera": wrist > 0,
            "n_external_cameras": min(len(info.cameras) - wrist, 2),
            "needs_stereo_camera": False,
            "needs_session_id": True,
            "action_space": "cartesian_velocity",
        }


def is_picture(value: Any) -> bool:
    """Whether a value among others means to be a picture: an array of rank 3, or a JPEG's or PNG's bytes."""
    if isinstance(value, bytes):
        return value.startswith((PNG_HEAD, JPEG_HEAD))
    return isinstance(value, np.ndarray) and value.ndim == 3


def as_picture(value: Any) -> Any:
    """An array as uint8 [height, width, 3]: openpi takes channels first too, and floats from 0 to 1."""
    if not isinstance(value, np.ndarray):
        return value
    if np.issubdtype(value.dtype, np.floating):
        value = (np.nan_to_num(value.clip(0, 1)) * 255).astype(np.uint8)
    if value.shape[0] == 3 and value.shape[2] != 3:
        value = value.transpose(1, 2, 0)
    return value


def _flat(fields: Fields) -> list[tuple[str, Any]]:
    """Keys and values, those of nested maps as their own."""
    pairs: list[tuple[str, Any]] = []
    for key, value in fields.items():
        nested = key in _NESTED and isinstance(value, Mapping)
        pairs += [(f"{key}/{inner}", part) for inner, part in value.items()] if nested else [(key, value)]
    return pairs


def _text(value: Any) -> Any:
    """A prompt that is bytes or an array of one string is a string."""
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else value


OPENPI, ROBOARENA = OpenPI(), RoboArena()
