"""openpi's clients and RoboArena's: an observation with free keys in, `actions` and timings out.

Knows no socket. Source: Physical-Intelligence/openpi src/openpi/serving, packages/openpi-client; robo-arena/roboarena.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stillframe.domain import PolicyInfo
from stillframe.errors import Unprocessable
from stillframe.web.dialects.action_ranges import gripper_meaning
from stillframe.web.dialects.base import NativeFrame, Reply, finite
from stillframe.web.dialects.cameras import assign_cameras
from stillframe.web.dialects.openpi_state import find_state
from stillframe.web.dialects.pictures import as_picture, is_picture, might_be_picture
from stillframe.web.dialects.state_ranges import state_fields
from stillframe.web.http.parsing import Fields
from stillframe.web.http.problems import pointer
from stillframe_client.wire.camera_names import Mount, camera_mount
from stillframe_client.wire.openpi import INSTRUCTION_KEYS, PASSED_ON, flat_items

RESET_DONE = "reset successful"


@dataclass(frozen=True)
class OpenPI:
    """Replies as openpi's server: a map whose only array is the chunk, and timings as numbers."""

    name: str = "openpi"

    def translate(self, fields: Fields, info: PolicyInfo) -> NativeFrame:
        """Find the pictures, the instruction and the robot's state among the observation's keys."""
        pairs = list(flat_items(fields))
        said, state = _assign_pictures(pairs, info), find_state(dict(pairs), info)
        pointers = {**said.pointers, **state.pointers}
        rest: dict[str, Any] = {key: fields[key] for key in PASSED_ON if key in fields}
        rest |= state.fields
        rest["images"] = {
            camera: as_picture(picture, pointer(said.keys[camera])) for camera, picture in said.fields["images"].items()
        }
        words = next((key for key in INSTRUCTION_KEYS if key in fields), None)
        if words is None:
            return NativeFrame(rest, {**pointers, "/instruction": "/prompt"}, said.keys)
        pointers["/instruction"] = f"/{words}"
        return NativeFrame({**rest, "instruction": _text(fields[words])}, pointers, said.keys)

    def write(self, answer: Reply) -> Any:
        """`actions` float32 [horizon, action_dim]; its clients slice every array they find along its first axis."""
        total_ms = float(answer.timing_ms["total"])
        policy_ms = total_ms - float(answer.timing_ms.get("queue", 0.0))
        return {
            "actions": finite(answer.chunk).actions.astype("<f4"),
            "policy_timing": {"infer_ms": policy_ms},
            "server_timing": {"infer_ms": total_ms, **answer.echo},
        }

    def reset_done(self) -> Any:
        """Return the reply to a reset: a map, as openpi's client takes any text for an error."""
        return {"status": RESET_DONE}

    def metadata(self, info: PolicyInfo) -> dict[str, Any]:
        """Return the server metadata, sent first; free-form in openpi, so a deployment may have a say in it."""
        return {
            "server": "stillframe",
            "policy": info.name,
            "cameras": list(info.cameras),
            "image_size": list(info.image_size),
            "action_names": list(info.action_names),
            "action_horizon": info.chunk_horizon,
            "replan_steps": info.replan_after,
            "gripper": gripper_meaning(info),
            "camera_keys": dict(info.camera_keys),
            "center_crop": info.center_crop,
            "state": None if info.state is None else state_fields(info.state),
            "unnorm_key": info.default_unnorm_key,
            **info.openpi_metadata,
        }


@dataclass(frozen=True)
class RoboArena(OpenPI):
    """RoboArena's evaluation clients: six keys of metadata, no more, and the bare array as the reply."""

    name: str = "roboarena"

    def write(self, answer: Reply) -> NDArray[np.float32]:
        """float32 [horizon, action_dim]."""
        return finite(answer.chunk).actions.astype("<f4")

    def reset_done(self) -> Any:
        """Return the text that RoboArena's server sends."""
        return RESET_DONE

    def metadata(self, info: PolicyInfo) -> dict[str, Any]:
        """The members of its PolicyServerConfig: clients build it from this map, and fail on any other key."""
        wrist = sum(camera_mount(one, info.camera_slots.get(one, one)) is Mount.HAND for one in info.cameras)
        return {
            "image_resolution": list(info.image_size),
            "needs_wrist_camera": wrist > 0,
            "n_external_cameras": min(len(info.cameras) - wrist, 2),
            "needs_stereo_camera": False,
            "needs_session_id": True,
            "action_space": "cartesian_velocity",
        }


def _assign_pictures(pairs: Sequence[tuple[str, Any]], info: PolicyInfo) -> NativeFrame:
    """Assign pictures to cameras; a value that only might be one is used where a camera has none, for its error."""
    pictures = {key: value for key, value in pairs if is_picture(value)}
    try:
        return assign_cameras(pictures, {}, info)
    except Unprocessable as error:
        meant = {key: value for key, value in pairs if key in pictures or might_be_picture(key, value)}
        if error.code != "missing-camera" or len(meant) == len(pictures):
            raise
        return assign_cameras(meant, {}, info)


def _text(value: Any) -> Any:
    """Return bytes, or the one string of a list, as a string; msgpack_values has unwrapped arrays."""
    if isinstance(value, list) and len(value) == 1:
        value = value[0]
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else value


OPENPI, ROBOARENA = OpenPI(), RoboArena()
