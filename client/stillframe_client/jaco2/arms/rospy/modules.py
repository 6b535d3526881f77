"""ROS as it is installed: its modules, its messages, whether its master answers.

Knows no arm. Imports ROS only when it is asked for.
"""

from __future__ import annotations

import os
import socket
from importlib import import_module
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from stillframe_client.jaco2.arms.base import ArmError

MASTER = "ROS_MASTER_URI"
DEFAULT_MASTER = "http://localhost:11311"


class Ros(NamedTuple):
    """What is used of it."""

    rospy: Any
    geometry_msgs: Any
    kinova_msgs: Any
    kinova_services: Any


def load() -> Ros:
    """Import it. Raises ArmError."""
    try:
        return Ros(*map(import_module, ("rospy", "geometry_msgs.msg", "kinova_msgs.msg", "kinova_msgs.srv")))
    except ImportError as error:
        raise ArmError(
            f"ROS 1 is not here: {error}. Source the workspace that kinova-ros was built in, as in "
            "`source ~/catkin_ws/devel/setup.bash`, install this client for its Python; or set arm.kind to rosbridge"
        ) from error


def reach_master(timeout_s: float) -> str:
    """The master's address, which answers. Raises ArmError: ROS itself would wait forever."""
    uri = os.environ.get(MASTER, DEFAULT_MASTER)
    parts = urlsplit(uri)
    try:
        socket.create_connection((parts.hostname or "", parts.port or 0), timeout_s).close()
    except (OSError, ValueError) as error:
        raise ArmError(f"no ROS master at {uri}: {error}. Is roscore running, is {MASTER} right?") from error
    return uri
