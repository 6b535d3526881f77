from __future__ import annotations

import base64
import math
from typing import Any

import numpy as np
import pytest

from stillframe_client.jaco2.domain import Twist
from stillframe_client.jaco2.rosbridge.messages import (
    Names,
    message_type,
    read_closure,
    read_joints,
    read_picture,
    read_pose,
    velocity,
)
from stillframe_client.jaco2.settings import ArmSettings

TWIST = Twist(np.array([0.01, -0.02, 0.03]), np.array([0.1, 0.2, -0.3]), 0.25)
POSE: dict[str, Any] = {
    "header": {"stamp": {"sec": 1, "nanosec": 2}, "frame_id": "j2n6s300_link_base"},
    "pose": {"position": {"x": 0.1, "y": -0.4, "z": 0.3}, "orientation": {"x": 1.0, "y": 0.0, "z": 0.0, "w": 0.0}},
}


@pytest.mark.parametrize("prefix", ["", "/left", "left", "left/", "/lab/left/"])
def test_topics_are_under_prefix_and_driver(prefix: str) -> None:
    """Every name is absolute: prefix, the driver's node, then the driver's own name for it."""
    names = Names(ArmSettings(prefix=prefix, name="arm1"))
    head = f"/{prefix.strip('/')}/arm1_driver" if prefix else "/arm1_driver"

    assert names.driver == head
    assert names.command == f"{head}/in/cartesian_velocity_with_fingers"
    assert names.topic("out/tool_pose") == f"{head}/out/tool_pose"


@pytest.mark.parametrize(
    ("ros", "kind", "service", "rosapi"),
    [
        (1, "kinova_msgs/PoseVelocity", None, "rosapi"),
        (2, "kinova_msgs/msg/PoseVelocity", "kinova_msgs/srv/Stop", "rosapi_msgs"),
    ],
)
def test_types_are_written_as_the_ros_writes_them(ros: int, kind: str, service: str | None, rosapi: str) -> None:
    """ROS 2 has /msg/ and /srv/ in its types; ROS 1 has neither, and a call there names no type."""
    names = Names(ArmSettings(ros=ros, command="arm_only"))

    assert names.command_type == kind
    assert names.type("kinova_msgs", "PoseVelocity") == kind
    assert names.service_type("kinova_msgs", "Stop") == service
    assert names.rosapi == rosapi
    assert message_type(ros, "sensor_msgs", "CompressedImage").endswith("/CompressedImage")


def test_a_velocity_for_the_arm_alone_has_six_fields() -> None:
    """PoseVelocity: m/s and rad/s by their names in kinova_msgs, and no finger."""
    assert velocity(TWIST, "arm_only") == {
        "twist_linear_x": 0.01,
        "twist_linear_y": -0.02,
        "twist_linear_z": 0.03,
        "twist_angular_x": 0.1,
        "twist_angular_y": 0.2,
        "twist_angular_z": -0.3,
    }


@pytest.mark.parametrize(("closure", "percent"), [(0.25, 25.0), (1.0, 100.0), (0.0, 0.0), (1.2, 100.0), (-0.1, 0.0)])
def test_a_velocity_with_fingers_has_per_cent(closure: float, percent: float) -> None:
    """PoseVelocityWithFingers: closure of 0 to 1 is 0 (open) to 100 (closed), and never beyond."""
    body = velocity(Twist(TWIST.linear_m_s, TWIST.angular_rad_s, closure), "with_fingers")

    assert body["fingers_closure_percentage"] == pytest.approx(percent)
    assert len(body) == 7


def test_a_pose_is_read() -> None:
    """Metres and a unit quaternion, in ROS 1 and 2 alike: stamps are not looked at."""
    pose = read_pose(POSE)

    assert pose.position_m.tolist() == [0.1, -0.4, 0.3]
    assert pose.orientation.tolist() == [1.0, 0.0, 0.0, 0.0]


def test_a_pose_of_single_precision_is_made_a_unit() -> None:
    """A quaternion near unit length is made exact; one far from it stays, for the streamer's check to refuse."""
    near = {"x": 0.0, "y": 0.70711, "z": 0.0, "w": 0.7071}
    far = {"x": 0.0, "y": 0.5, "z": 0.0, "w": 0.0}
    position = POSE["pose"]["position"]

    assert np.linalg.norm(read_pose({"pose": {"position": position, "orientation": near}}).orientation) == (
        pytest.approx(1.0, abs=1e-12)
    )
    assert read_pose({"pose": {"position": position, "orientation": far}}).orientation.tolist() == [0, 0.5, 0, 0]


def test_numbers_that_json_lacks_are_nan() -> None:
    """A server writes NaN as null: it is read as NaN, which the streamer refuses, and not passed over."""
    pose = read_pose({"pose": {**POSE["pose"], "position": {"x": None, "y": 0.0, "z": 1e999}}})

    assert math.isnan(pose.position_m[0])
    assert math.isinf(pose.position_m[2])


@pytest.mark.parametrize(
    "message",
    [
        {},
        {"pose": None},
        {"pose": {"position": {"x": 0, "y": 0, "z": 0}}},
        {"pose": {**POSE["pose"], "position": {"x": 0, "y": 0}}},
        {"pose": {**POSE["pose"], "position": {"x": "0", "y": 0, "z": 0}}},
        {"pose": {**POSE["pose"], "position": {"x": True, "y": 0, "z": 0}}},
        {"pose": {**POSE["pose"], "orientation": [1, 0, 0, 0]}},
    ],
    ids=["empty", "null", "no-orientation", "no-z", "text", "bool", "list"],
)
def test_what_is_no_pose_is_refused(message: dict[str, Any]) -> None:
    """A message of another shape is a ValueError, never a pose with zeros in it."""
    with pytest.raises(ValueError, match=r"missing|expected a number"):
        read_pose(message)


@pytest.mark.parametrize(("turns", "closure"), [(0, 0.0), (3400, 0.5), (6800, 1.0), (7100.5, 1.0), (-3, 0.0)])
def test_fingers_are_a_closure(turns: float, closure: float) -> None:
    """Finger 1's turns over those of a closed hand, kept within 0 and 1."""
    message = {"finger1": turns, "finger2": 1.0, "finger3": 1.0}
    assert read_closure(message, 6800.0) == pytest.approx(closure)


@pytest.mark.parametrize("message", [{}, {"finger1": None}, {"finger1": "3"}], ids=["empty", "null", "text"])
def test_what_is_no_finger_position_is_refused(message: dict[str, Any]) -> None:
    """No number, no closure."""
    with pytest.raises(ValueError, match="finger1"):
        read_closure(message, 6800.0)


def test_joints_are_in_order_and_without_fingers() -> None:
    """The arm's joints by their numbers, whatever the order of the message; fingers and tips are left out."""
    names = ["j2n6s300_joint_finger_1", *(f"j2n6s300_joint_{n}" for n in (2, 1, 3)), "j2n6s300_joint_finger_tip_1"]

    assert read_joints({"name": names, "position": [9.0, 0.2, 0.1, 0.3, 8.0]}) == (0.1, 0.2, 0.3)


@pytest.mark.parametrize(
    "message",
    [{}, {"name": ["a_joint_1"], "position": []}, {"name": ["wheel"], "position": [1.0]}, {"name": "x", "position": 1}],
    ids=["empty", "lengths", "others", "no-lists"],
)
def test_what_is_no_joint_state_is_refused(message: dict[str, Any]) -> None:
    """Lists of different lengths, or none of the arm's joints: ValueError."""
    with pytest.raises(ValueError, match=r"joint|lists"):
        read_joints(message)


def test_pictures_arrive_as_base64() -> None:
    """uint8[] is base64 in rosbridge's JSON; anything else is refused."""
    assert read_picture({"format": "jpeg", "data": base64.b64encode(b"\xff\xd8x").decode()}) == b"\xff\xd8x"
    for data in (None, [255, 216], "no base64!", "abc"):
        with pytest.raises(ValueError, match=r"base64|padding|Only|Incorrect|Non-base64"):
            read_picture({"data": data})
