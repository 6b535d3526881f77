"""The Arm inside ROS 1: publishes velocities, hears the pose and the fingers, calls the driver's services.

Knows no limit. Publishing hands a message to ROS's own thread, which keeps one: nothing here waits for the driver.
"""

from __future__ import annotations

import math
import sys
import threading
import time
from typing import TYPE_CHECKING, Any, Callable, Optional

import numpy as np

from stillframe_client.jaco2.arms.base import ArmError, ArmInfo
from stillframe_client.jaco2.arms.rospy.modules import Ros, load, reach_master
from stillframe_client.jaco2.arms.rospy.orders import Orders
from stillframe_client.jaco2.domain import ArmState, ToolPose

if TYPE_CHECKING:
    from stillframe_client.jaco2.domain import Twist
    from stillframe_client.jaco2.settings import ArmSettings

NODE = "stillframe_jaco2"
LOOK_S = 0.01
COMMANDS = {  # arm.command: topic and message
    "with_fingers": ("cartesian_velocity_with_fingers", "PoseVelocityWithFingers"),
    "arm_only": ("cartesian_velocity", "PoseVelocity"),
}
SERVICES = {"start": "Start", "stop": "Stop", "clear_trajectories": "ClearTrajectories", "home_arm": "HomeArm"}


class RospyArm:
    """One driver."""

    def __init__(self, settings: ArmSettings, clock: Callable[[], float]):
        self._settings, self._clock = settings, clock
        prefix = settings.prefix.strip("/")
        self._driver = f"/{prefix + '/' if prefix else ''}{settings.name}_driver"
        self._has_hand = settings.command == "with_fingers"
        self._newest: Optional[ArmState] = None
        self._closure: Optional[float] = None
        self._ros: Optional[Ros] = None
        self._commands: Any = None
        self._orders: Optional[Orders] = None

    def connect(self, timeout_s: float) -> ArmInfo:
        """Become a node, hear the driver and be heard by it. Raises ArmError."""
        until_s = time.monotonic() + timeout_s
        ros, master = load(), reach_master(timeout_s)
        if ros.rospy.is_shutdown():
            raise ArmError("this process was connected to ROS before, and ROS allows that once; start another")
        ros.rospy.init_node(NODE, argv=[], anonymous=True, disable_signals=True)  # signals stop the arm: process.py
        self._ros = ros
        topic, message = COMMANDS[self._settings.command]
        topic, kind = f"{self._driver}/in/{topic}", getattr(ros.kinova_msgs, message)
        self._commands = ros.rospy.Publisher(topic, kind, tcp_nodelay=True, queue_size=1)
        self._hear("finger_position", ros.kinova_msgs.FingerPosition, self._hear_fingers)
        self._hear("tool_pose", ros.geometry_msgs.PoseStamped, self._hear_pose)
        self._orders = Orders(self._call)
        self._wait(until_s, topic, timeout_s)
        details = {"master": master, "commands": topic, "type": str(kind._type), "md5": str(kind._md5sum)}
        return ArmInfo("rospy", self._settings.name, has_hand=self._has_hand, reports_hz=None, details=details)

    def state(self) -> Optional[ArmState]:
        """The newest pose that arrived."""
        return self._newest

    def send(self, twist: Twist) -> None:
        """Publish it. Raises ArmError where no driver listens, or the last start failed."""
        numbers = (*twist.linear_m_s.tolist(), *twist.angular_rad_s.tolist())
        commands, orders = self._connected()
        try:
            commands.publish(*numbers, *((100.0 * twist.closure,) if self._has_hand else ()))
        except Exception as error:
            raise ArmError(f"the command was not published: {error}") from error
        if orders.error:
            raise ArmError(orders.error)
        if not commands.get_num_connections():
            raise ArmError(f"the driver {self._driver} no longer listens: has it ended, or lost the arm?")

    def start(self) -> None:
        """Have in/start called."""
        _, orders = self._connected()
        orders.error = ""
        orders.give("start")

    def stop(self) -> None:
        """Have in/stop called, until it works; it erases the arm's queue."""
        if self._orders is not None:
            self._orders.give("stop")

    def home(self, timeout_s: float) -> None:
        """Call in/home_arm, which also opens the hand, and wait; a stop goes past it. Raises ArmError."""
        self._connected()
        outcome = ["it did not answer"]
        thread = threading.Thread(target=self._home, args=(outcome,), name="stillframe-ros-home", daemon=True)
        thread.start()
        thread.join(timeout_s)
        if outcome[-1]:
            raise ArmError(f"{self._driver}/in/home_arm failed within {timeout_s:g} s: {outcome[-1]}")

    def close(self) -> None:
        """Leave ROS, when a stop that is owed was delivered or tried for a while."""
        if self._orders is not None:
            self._orders.close()
            if self._orders.owed:
                sys.stderr.write(f"the arm rests, as nothing is sent, but was not stopped: {self._orders.owed}\n")
        if self._ros is not None:
            self._ros.rospy.signal_shutdown("the bridge has ended")
        self._ros = self._orders = self._commands = None

    def _home(self, outcome: list) -> None:  # type: ignore[type-arg]  # of texts; the last counts
        try:
            self._call("home_arm")
        except Exception as error:  # noqa: BLE001 -- ROS has many
            outcome.append(str(error))
        else:
            outcome.append("")

    def _call(self, service: str) -> None:
        ros = self._ros
        if ros is not None:
            ros.rospy.ServiceProxy(f"{self._driver}/in/{service}", getattr(ros.kinova_services, SERVICES[service]))()

    def _hear(self, topic: str, kind: Any, heard: Callable[[Any], None]) -> None:
        if self._ros is not None:
            self._ros.rospy.Subscriber(f"{self._driver}/out/{topic}", kind, heard, queue_size=1, tcp_nodelay=True)

    def _hear_fingers(self, message: Any) -> None:
        share = message.finger1 / self._settings.finger_turns
        self._closure = min(max(share, 0.0), 1.0) if math.isfinite(share) else None

    def _hear_pose(self, message: Any) -> None:
        position, turn = message.pose.position, message.pose.orientation
        pose = ToolPose(np.array([position.x, position.y, position.z]), np.array([turn.x, turn.y, turn.z, turn.w]))
        seq = 1 if self._newest is None else self._newest.seq + 1
        self._newest = ArmState(seq, self._clock(), pose, self._closure)

    def _wait(self, until_s: float, topic: str, timeout_s: float) -> None:
        while self._newest is None or not self._commands.get_num_connections():
            if time.monotonic() > until_s:
                lacks = (
                    f"{self._driver}/out/tool_pose is silent" if self._newest is None else f"none listens to {topic}"
                )
                self.close()
                raise ArmError(
                    f"no driver within {timeout_s:g} s: {lacks}. Is it running, are arm.name and arm.prefix those of "
                    "its topics, and is its kinova_msgs of the same version?"
                )
            time.sleep(LOOK_S)

    def _connected(self) -> Any:
        if self._commands is None or self._orders is None:
            raise ArmError("the arm is not connected: connect first")
        return self._commands, self._orders
