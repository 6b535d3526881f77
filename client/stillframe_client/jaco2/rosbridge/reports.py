"""Puts the driver's topics together to the arm's state: each tool pose is a report, with the newest hand and joints.

Knows no socket. The stamps of the messages are another machine's clock, so a report's time is when it arrived here.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any, Callable, Dict, Optional, Tuple

from stillframe_client.jaco2.domain import ArmState
from stillframe_client.jaco2.rosbridge.messages import read_closure, read_joints, read_pose

if TYPE_CHECKING:
    from stillframe_client.jaco2.rosbridge.connection import Connection
    from stillframe_client.jaco2.rosbridge.messages import Names


class Reports:
    """The newest state of one arm; written by the connection's thread."""

    def __init__(self, finger_turns: float, clock: Callable[[], float]):
        self._finger_turns, self._clock = finger_turns, clock
        self._closure: Optional[float] = None
        self._joints_rad: Optional[Tuple[float, ...]] = None
        self.newest: Optional[ArmState] = None
        self.first = threading.Event()  # there is one

    def subscribe(self, connection: Connection, names: Names) -> None:
        """Ask for what a state is made of."""
        pose = names.type("geometry_msgs", "PoseStamped")
        connection.subscribe(names.topic("out/tool_pose"), pose, self.take_pose)
        fingers = names.type("kinova_msgs", "FingerPosition")
        connection.subscribe(names.topic("out/finger_position"), fingers, self.take_fingers)
        joints = names.type("sensor_msgs", "JointState")
        connection.subscribe(names.topic("out/joint_state"), joints, self.take_joints)

    def take_pose(self, message: Dict[str, Any]) -> None:
        """One more report. Raises ValueError for a message of another shape."""
        pose = read_pose(message)
        seq = 1 if self.newest is None else self.newest.seq + 1
        self.newest = ArmState(seq, self._clock(), pose, self._closure, self._joints_rad)
        self.first.set()

    def take_fingers(self, message: Dict[str, Any]) -> None:
        """The hand of the reports to come. Raises ValueError."""
        self._closure = read_closure(message, self._finger_turns)

    def take_joints(self, message: Dict[str, Any]) -> None:
        """The joints of the reports to come. Raises ValueError."""
        self._joints_rad = read_joints(message)
