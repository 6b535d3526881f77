"""openpi's clients and their kin: observation keys of the policy's own choosing in, `actions` and timings out.

Knows no socket. Source: Physical-Intelligence/openpi src/openpi/serving, packages/openpi-client; robo-arena/roboarena.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stillframe.domain import PolicyInfo
from stillframe.errors import Unprocessable
from stillframe.web.dialects.base import Answer, Fields, Said, finite
from stillframe.web.dialects.cameras import placed
from stillframe.web.dialects.naming import Family, family
from stillframe.web.dialects.pictures import as_picture, is_picture, may_be_meant
from stillframe.web.dialects.ranges import gripper_words
from stillframe.web.http.problems import pointer

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
        said = _placed(_flat(fields), info)
        rest: dict[str, Any] = {key: fields[key] for key in _PASSED_ON if key in fields}
        rest["images"] = {
            camera: as_picture(picture, pointer(said.keys[camera])) for camera, picture in said.fields["images"].items()
        }
        words = next((key for key in _WORDS if key in fields), None)
        if words is None:
            return Said(rest, {**said.places, "/instruction": "/prompt"}, said.keys)
        places = {**said.places, "/instruction": f"/{words}"}
        return Said({**rest, "instruction": _text(fields[words])}, places, said.keys)

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
            "gripper": gripper_words(info),
            "camera_keys": dict(info.camera_keys),
            "center_crop": info.center_crop,
            "unnorm_key": info.default_unnorm_key,
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
        wrist = sum(family(camera) is Family.HAND for camera in info.cameras)
        return {
            "image_resolution": list(info.image_size),
            "needs_wrist_camera": wrist > 0,
            "n_external_cameras": min(len(info.cameras) - wrist, 2),
            "needs_stereo_camera": False,
            "needs_session_id": True,
            "action_space": "cartesian_velocity",
        }


def _placed(pairs: Sequence[tuple[str, Any]], info: PolicyInfo) -> Said:
    """Pictures by the policy's cameras. What only seems one is taken where a camera has no other: to be told why."""
    pictures = {key: value for key, value in pairs if is_picture(value)}
    try:
        return placed(pictures, {}, info)
    except Unprocessable as error:
        meant = {key: value for key, value in pairs if key in pictures or may_be_meant(key, value)}
        if error.code != "missing-camera" or len(meant) == len(pictures):
            raise
        return placed(meant, {}, info)


def _flat(fields: Fields, above: str = "") -> list[tuple[str, Any]]:
    """Keys and values, those of nested maps as their own."""
    pairs: list[tuple[str, Any]] = []
    for key, value in fields.items():
        nested = key in _NESTED and isinstance(value, Mapping)
        pairs += _flat(value, f"{above}{key}/") if nested else [(f"{above}{key}", value)]
    return pairs


def _text(value: Any) -> Any:
    """A prompt that is bytes, or one string in a list, is a string; one in an array is one already as it is read."""
    if isinstance(value, list) and len(value) == 1:
        value = value[0]
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else value


OPENPI, ROBOARENA = OpenPI(), RoboArena()
