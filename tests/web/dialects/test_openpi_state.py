from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from stillframe.errors import Unprocessable
from stillframe.testing import policy_info, state_info
from stillframe.web.dialects.openpi import OPENPI, ROBOARENA
from stillframe.web.http.limits import Limits
from stillframe.web.http.session_fields import RequestAddress
from stillframe.web.service.frame_parser import FrameParser

PICTURE = np.zeros((32, 32, 3), np.uint8)
JOINTS, GRIPPER = np.arange(7, dtype=np.float32) / 7, np.array([0.5])
DROID: dict[str, Any] = {"observation/joint_position": JOINTS, "observation/gripper_position": GRIPPER}
EIGHT = policy_info(state=state_info(*(f"s{at}" for at in range(8))))


def parsed(seen: dict[str, Any], info: Any = EIGHT) -> Any:
    fields = {"observation/image": PICTURE, "prompt": "go", **seen}
    return FrameParser(info, Limits()).parse(fields, OPENPI, RequestAddress())


@pytest.mark.parametrize(
    "seen",
    [
        {"observation/state": np.arange(8)},
        {"state": list(range(8))},
        {"observation": {"state": np.arange(8.0)[None]}},
        {"observation/state": {f"s{at}": float(at) for at in range(8)}},
        {"observation/joint_position": np.arange(7), "observation/gripper_position": 7.0},
    ],
    ids=["libero", "aloha", "nested", "names", "droid"],
)
def test_where_the_state_may_be(seen: dict[str, Any]) -> None:
    """Whole under one key, nested, by names, or joints with the gripper behind them."""
    assert parsed(seen).observation.state.tolist() == [*range(8)]


def test_joints_keep_their_precision() -> None:
    """float32 joints and a float64 gripper become float64, to the bit."""
    assert parsed(DROID).observation.state.tolist() == [*JOINTS.astype(np.float64), 0.5]


@pytest.mark.parametrize(
    ("seen", "code", "pointer"),
    [
        ({}, "missing-state", "/state"),
        ({"observation/gripper_position": GRIPPER}, "missing-state", "/state"),
        ({"observation/state": None, "state": None}, "missing-state", "/state"),
        ({"observation/state": np.zeros(7)}, "wrong-state", "/observation~1state"),
        ({"observation/state": np.array([0.0] * 7 + [math.nan])}, "wrong-state", "/observation~1state/7"),
        ({**DROID, "observation/joint_position": np.zeros(6)}, "wrong-state", "/observation~1joint_position"),
        ({**DROID, "observation/gripper_position": "open"}, "wrong-state", "/observation~1gripper_position"),
        ({**DROID, "observation/gripper_position": [math.inf]}, "wrong-state", "/observation~1gripper_position/0"),
    ],
    ids=str,
)
def test_what_is_wrong_is_said_by_the_clients_key(seen: dict[str, Any], code: str, pointer: str) -> None:
    """The problem points at what the client sent."""
    with pytest.raises(Unprocessable) as caught:
        parsed(seen)

    assert (caught.value.code, caught.value.pointer) == (code, pointer)


def test_joints_and_a_pose_that_fit_alike_are_refused() -> None:
    """RoboArena's clients send both: a policy of seven unnamed numbers could read either."""
    seven = policy_info(state=state_info(*(f"s{at}" for at in range(7))))
    named = policy_info(state=state_info("x", "y", "z", "rx", "ry", "rz", "gripper"))
    seen = {**DROID, "observation/cartesian_position": np.full(6, 3.0)}

    with pytest.raises(Unprocessable, match="send what is meant as 'observation/state'"):
        parsed(seen, seven)
    assert parsed(seen, named).observation.state.tolist() == [3.0] * 6 + [0.5]


@pytest.mark.parametrize("seen", [DROID, {"state": "anything"}, {"observation/state": np.full(8, math.nan)}], ids=str)
def test_a_policy_that_reads_none_judges_none(seen: dict[str, Any]) -> None:
    """It is left aside, and known to be."""
    frame = parsed(seen, policy_info())

    assert (frame.observation.state, frame.unread_state) == (None, True)
    assert not parsed({}, policy_info()).unread_state


def test_the_metadata_names_each_number() -> None:
    """That of openpi is free-form; RoboArena's has six keys, and no more."""
    info = policy_info(state=state_info("x", "y", unit=""))

    said = {"unit": None, "ranges": {"robot": [-1.0, 1.0]}}
    assert OPENPI.metadata(info)["state"] == [{"name": "x", **said}, {"name": "y", **said}]
    assert OPENPI.metadata(policy_info())["state"] is None
    assert "state" not in ROBOARENA.metadata(info)
