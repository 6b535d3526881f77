"""The robot's state among an openpi observation's keys: whole, or joints or hand with the gripper behind.

Knows no picture. What a policy does not read is not judged.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from stillframe.domain import PolicyInfo
from stillframe.errors import Unprocessable
from stillframe.web.dialects.base import NativeFrame
from stillframe.web.http.problems import pointer
from stillframe.web.http.robot_state import PLACE
from stillframe.web.http.state_numbers import state_numbers
from stillframe_client.wire.openpi_state import PART_KEYS, STATE_KEYS, StateChoiceError, choose_state


def find_state(observation: Mapping[str, Any], info: PolicyInfo) -> NativeFrame:
    """Return the native field `state`, where there is one, and where its numbers were. Raises RequestError."""
    key = next((key for key in STATE_KEYS if observation.get(key) is not None), None)
    if key is not None:
        return NativeFrame({"state": observation[key]}, {PLACE: pointer(key)})
    sent = {key: observation[key] for key in PART_KEYS if observation.get(key) is not None}
    if not sent:
        return NativeFrame({})
    return NativeFrame({"state": list(sent)}) if info.state is None else _joined(sent, info.state.names)


def _joined(sent: Mapping[str, Any], names: tuple[str, ...]) -> NativeFrame:
    parts = {key: state_numbers(value, pointer(key)) for key, value in sent.items()}
    try:
        chosen = choose_state({key: len(part) for key, part in parts.items()}, names)
    except StateChoiceError as error:
        raise Unprocessable("wrong-state", f"Here {error}.", pointer=pointer(error.keys[0])) from error
    if not chosen:
        return NativeFrame({})
    places = [pointer(key, at) for key in chosen for at in range(len(parts[key]))]
    pointers = {PLACE: pointer(chosen[0]), **{pointer("state", at): place for at, place in enumerate(places)}}
    return NativeFrame({"state": np.concatenate([parts[key] for key in chosen])}, pointers)
