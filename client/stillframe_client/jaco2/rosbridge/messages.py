"""Names, types and bodies of the messages of the arm's driver, in ROS 1 and ROS 2.

Knows no socket and no limit. Readers raise ValueError for a message of another shape; a number that ROS could not say
in JSON arrives as null and is read as NaN, which the streamer's checks refuse.
"""

from __future__ import annotations

import base64
import math
import re
from typing import TYPE_CHECKING, Any, Dict, Mapping, Optional, Tuple

import numpy as np

from stillframe_client.jaco2 import rotations
from stillframe_client.jaco2.domain import ToolPose

if TYPE_CHECKING:
    from stillframe_client.jaco2.domain import Twist
    from stillframe_client.jaco2.settings import ArmSettings

COMMANDS = {
    "with_fingers": ("in/cartesian_velocity_with_fingers", "PoseVelocityWithFingers"),
    "arm_only": ("in/cartesian_velocity", "PoseVelocity"),
}
_JOINT = re.compile(r"_joint_(\d+)$")  # of the arm; those of fingers are _joint_finger_1


class Names:
    """Topics, services and types as one driver has them."""

    def __init__(self, arm: ArmSettings):
        prefix = arm.prefix.strip("/")
        self.driver = f"/{prefix}/{arm.name}_driver" if prefix else f"/{arm.name}_driver"  # its node's name
        self._ros = arm.ros
        topic, message = COMMANDS[arm.command]
        self.command, self.command_type = self.topic(topic), self.type("kinova_msgs", message)

    def topic(self, name: str) -> str:
        """A topic or service of the driver, such as out/tool_pose or in/stop."""
        return f"{self.driver}/{name}"

    def type(self, package: str, name: str) -> str:
        """A message's type."""
        return message_type(self._ros, package, name)

    def service_type(self, package: str, name: str) -> Optional[str]:
        """A service's type; None in ROS 1, where a call does not name it."""
        return None if self._ros == 1 else f"{package}/srv/{name}"

    @property
    def rosapi(self) -> str:
        """The package of rosapi's services."""
        return "rosapi" if self._ros == 1 else "rosapi_msgs"


def message_type(ros: int, package: str, name: str) -> str:
    """A message's type in ROS 1 or 2."""
    return f"{package}/{name}" if ros == 1 else f"{package}/msg/{name}"


def velocity(twist: Twist, command: str) -> Dict[str, float]:
    """Body of PoseVelocity (arm_only) or PoseVelocityWithFingers: m/s, rad/s, and the hand's closure in per cent."""
    x, y, z = twist.linear_m_s.tolist()
    around_x, around_y, around_z = twist.angular_rad_s.tolist()
    body = {
        "twist_linear_x": x,
        "twist_linear_y": y,
        "twist_linear_z": z,
        "twist_angular_x": around_x,
        "twist_angular_y": around_y,
        "twist_angular_z": around_z,
    }
    if command == "with_fingers":
        body["fingers_closure_percentage"] = 100.0 * min(max(twist.closure, 0.0), 1.0)
    return body


def read_pose(message: Mapping[str, Any]) -> ToolPose:
    """A geometry_msgs/PoseStamped: metres, quaternion x, y, z, w of unit length where it is near one."""
    pose = _part(message, "pose")
    position, orientation = _part(pose, "position"), _part(pose, "orientation")
    turn = np.array([_number(orientation, axis) for axis in "xyzw"])
    if 0.9 < math.sqrt(float(turn @ turn)) < 1.1:
        turn = rotations.normalised(turn)
    return ToolPose(np.array([_number(position, axis) for axis in "xyz"]), turn)


def read_closure(message: Mapping[str, Any], finger_turns: float) -> float:
    """A kinova_msgs/FingerPosition as closure, 0 to 1: of finger 1, which is the one that the driver controls by."""
    closure = _number(message, "finger1") / finger_turns
    if not math.isfinite(closure):
        raise ValueError("finger1 is not finite")
    return min(max(closure, 0.0), 1.0)


def read_joints(message: Mapping[str, Any]) -> Tuple[float, ...]:
    """A sensor_msgs/JointState as the arm's joints in radians, in order and without the fingers."""
    names, positions = message.get("name"), message.get("position")
    if not isinstance(names, list) or not isinstance(positions, list) or len(names) != len(positions):
        raise ValueError("name and position of a JointState are not two lists of one length")
    found: Dict[int, float] = {}
    for index, name in enumerate(names):
        joint = _JOINT.search(str(name))
        if joint:
            found[int(joint.group(1))] = _float(positions[index], str(name))
    if not found:
        raise ValueError(f"no joint of the arm among {names[:8]}")
    return tuple(found[number] for number in sorted(found))


def read_picture(message: Mapping[str, Any]) -> bytes:
    """The encoded picture of a sensor_msgs/CompressedImage."""
    data = message.get("data")
    if not isinstance(data, str):
        raise ValueError(f"data of a CompressedImage is {type(data).__name__}; expected base64")
    return base64.b64decode(data, validate=True)


def _part(message: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    part = message.get(name)
    if not isinstance(part, dict):
        raise ValueError(f"{name} is missing")
    return part


def _number(message: Mapping[str, Any], name: str) -> float:
    return _float(message.get(name, ""), name)


def _float(value: Optional[Any], name: str) -> float:
    if value is None:
        return math.nan
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise ValueError(f"{name} is {value!r}; expected a number")
    try:
        return float(value)
    except OverflowError:
        return math.inf
