"""The `rospy` arm: kinova-ros's driver from inside ROS 1, for a computer on which ROS and its workspace are sourced.

Not proven on hardware: tested against a real master and a driver that behaves like the arm's. ROS itself is imported
only when the arm connects. A process connects once: ROS knows no second node in it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from stillframe_client.jaco2.arms.rospy.arm import RospyArm
from stillframe_client.jaco2.link import now_s

if TYPE_CHECKING:
    from stillframe_client.jaco2.settings import BridgeSettings


def make(settings: BridgeSettings) -> RospyArm:
    """The arm of the settings."""
    return RospyArm(settings.arm, now_s)
