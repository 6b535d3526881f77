"""A driver that behaves like kinova-ros's, as a real node: `mock_driver.py NAME LOG`; writes what it saw, line by line.

Topics, services and queue sizes are the driver's; behind them is the bridge's own model of queue, stop flag and report.
"""

from __future__ import annotations

import json
import sys
import threading
import time
from typing import Any

import numpy as np
import rospy
from geometry_msgs.msg import PoseStamped
from kinova_msgs.msg import FingerPosition, PoseVelocity, PoseVelocityWithFingers
from kinova_msgs.srv import ClearTrajectories, HomeArm, Start, Stop

from stillframe_client.jaco2.arms.driver import DriverModel
from stillframe_client.jaco2.arms.kinematic import KinematicBody
from stillframe_client.jaco2.domain import Twist

FULL_TURNS = 6800.0


class Driver:
    """One arm."""

    def __init__(self, name: str, log: str):
        self._space, self._log, self._lock = f"/{name}_driver", open(log, "a"), threading.Lock()  # noqa: SIM115, PTH123
        self._model = DriverModel(KinematicBody(), time.monotonic())
        self._said = 0
        self._poses = rospy.Publisher(f"{self._space}/out/tool_pose", PoseStamped, queue_size=1)
        self._fingers = rospy.Publisher(f"{self._space}/out/finger_position", FingerPosition, queue_size=1)
        for topic, kind in (
            ("cartesian_velocity", PoseVelocity),
            ("cartesian_velocity_with_fingers", PoseVelocityWithFingers),
        ):
            rospy.Subscriber(f"{self._space}/in/{topic}", kind, self._command, queue_size=1, tcp_nodelay=True)
        for service, kind in (
            ("start", Start),
            ("stop", Stop),
            ("clear_trajectories", ClearTrajectories),
            ("home_arm", HomeArm),
        ):
            rospy.Service(
                f"{self._space}/in/{service}", kind, lambda _, name=service, kind=kind: self._serve(name, kind)
            )

    def run(self) -> None:
        """Until ROS ends."""
        self._note(up=True)
        while not rospy.is_shutdown():
            with self._lock:
                self._model.advance(time.monotonic())
                state = self._model.state
                if state.seq != self._said:
                    self._said = state.seq
                    self._say(state)
            time.sleep(0.002)

    def _command(self, message: Any) -> None:
        numbers = [getattr(message, name) for name in message.__slots__]
        with self._lock:
            now_s = time.monotonic()
            self._model.advance(now_s)
            closure = numbers[6] / 100 if len(numbers) > 6 else self._model.body.closure()
            self._model.command(Twist(np.array(numbers[:3]), np.array(numbers[3:6]), closure))
            self._note(command=numbers, stopped=self._model.stopped)

    def _serve(self, name: str, kind: Any) -> Any:
        with self._lock:
            if name == "start":
                self._model.start()
            elif name == "stop":
                self._model.stop()
            elif name == "home_arm":
                self._model.body = KinematicBody()
            self._note(service=name)
        return kind._response_class("done")

    def _say(self, state: Any) -> None:
        pose, (x, y, z, w) = PoseStamped(), state.pose.orientation
        pose.header.stamp, pose.header.frame_id = rospy.Time.now(), f"{self._space[1:]}_link_base"
        pose.pose.position.x, pose.pose.position.y, pose.pose.position.z = state.pose.position_m
        turn = pose.pose.orientation
        turn.x, turn.y, turn.z, turn.w = x, y, z, w
        self._poses.publish(pose)
        self._fingers.publish(*[FULL_TURNS * state.closure] * 3)
        self._note(position=state.pose.position_m.tolist(), closure=state.closure, **vars(self._model.counts))

    def _note(self, **what: Any) -> None:
        self._log.write(json.dumps({"t": time.monotonic(), **what}) + "\n")
        self._log.flush()


if __name__ == "__main__":
    rospy.init_node(f"{sys.argv[1]}_driver")
    Driver(sys.argv[1], sys.argv[2]).run()
