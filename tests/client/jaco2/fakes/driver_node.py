"""kinova-ros' driver node as messages see it: queues of one, a FIFO of 10 ms points, a stop flag, reports at 10 Hz.

Knows no socket and no clock: times are handed in, so that tests can run it on a virtual one.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from stillframe_client.jaco2.arms.driver import DriverModel
from stillframe_client.jaco2.arms.kinematic import KinematicBody
from stillframe_client.jaco2.ceilings import TICK_S
from stillframe_client.jaco2.domain import Twist

TURNS = 6800.0
GAIN_1_S = 2.0  # of the P loop on finger 1
DEAD_TURNS = 20.0
RESTART_S = 1.0
HOME_S = 0.3  # of the real one's many seconds
VELOCITY = [f"twist_{kind}_{axis}" for kind in ("linear", "angular") for axis in "xyz"]
JOINTS = [*(f"j2n6s300_joint_{n}" for n in range(1, 7)), *(f"j2n6s300_joint_finger_{n}" for n in range(1, 4))]


class Body(KinematicBody):
    """The kinematic tool, with the driver's finger loop; in a singularity nothing moves."""

    singular = False

    def move(self, twist: Twist | None) -> None:
        """Move for 10 ms."""
        before = self._closure
        super().move(None if self.singular else twist)
        self._closure = before
        if twist is not None and not self.singular:
            lag_turns = (twist.closure - before) * TURNS
            self._closure += GAIN_1_S * TICK_S * lag_turns / TURNS if abs(lag_turns) > DEAD_TURNS else 0.0


@dataclass
class DriverNode:
    """One driver. `receive` and `call` are what ROS brings it, `advance` gives what it publishes."""

    now_s: float
    name: str = "/j2n6s300_driver"
    ros: int = 1
    under_travel: float = 0.0
    commands: list[tuple[float, tuple[float, ...]]] = field(default_factory=list)  # as the driver took them
    arrivals_s: list[float] = field(default_factory=list)  # of velocity messages, those that were replaced included
    calls: list[tuple[float, str]] = field(default_factory=list)
    replaced: int = 0  # velocity messages that a newer one pushed out of the queue of one
    listens: bool = True  # to velocity messages
    reports: bool = True
    failing: set[str] = field(default_factory=set)  # services that answer with an error

    def __post_init__(self) -> None:
        self.body = Body(under_travel=self.under_travel)
        self.model = DriverModel(self.body, self.now_s)
        self._queue: dict[str, dict[str, Any]] = {}
        self._down_until_s = self.now_s
        self._reported = 0

    def type(self, package: str, name: str) -> str:
        """A message's type."""
        return f"{package}/{name}" if self.ros == 1 else f"{package}/msg/{name}"

    @property
    def subscribed(self) -> dict[str, str]:
        """Topic -> type of what it listens to."""
        kinds = {"": "PoseVelocity", "_with_fingers": "PoseVelocityWithFingers"}
        topics = {f"{self.name}/in/cartesian_velocity{end}": kind for end, kind in kinds.items() if self.listens}
        return {topic: self.type("kinova_msgs", kind) for topic, kind in topics.items()}

    @property
    def published(self) -> dict[str, str]:
        """Topic -> type of what it publishes."""
        kinds = {
            "tool_pose": ("geometry_msgs", "PoseStamped"),
            "finger_position": ("kinova_msgs", "FingerPosition"),
            "joint_state": ("sensor_msgs", "JointState"),
        }
        return {f"{self.name}/out/{topic}": self.type(*kind) for topic, kind in kinds.items()}

    @property
    def is_down(self) -> bool:
        """Whether it is being restarted."""
        return self.now_s < self._down_until_s

    def restart(self) -> None:
        """What an exception of the vendor's library does: all topics are gone for a second; the arm stays."""
        self._down_until_s = self.now_s + RESTART_S
        self.model, self._reported = DriverModel(self.body, self.now_s), 0
        self._queue.clear()

    def receive(self, topic: str, message: dict[str, Any]) -> None:
        """A message; the one before it that was not taken yet is lost."""
        if self.is_down:
            return
        self.arrivals_s.append(self.now_s)
        self.replaced += topic in self._queue
        self._queue[topic] = message

    def call(self, service: str) -> tuple[Any, float]:
        """Values of the answer, or the error as text, and after how many seconds it comes."""
        known = {"in/start", "in/stop", "in/clear_trajectories", "in/home_arm"}
        name = service.removeprefix(f"{self.name}/")
        if self.is_down or name not in known:
            return f"Service {service} does not exist", 0.0
        self.calls.append((self.now_s, name))
        if name in self.failing:
            return "the driver could not do it", 0.0
        self._obey(name)
        return {f"{name[3:]}_result": "done"}, HOME_S if name == "in/home_arm" else 0.0

    def advance(self, now_s: float) -> list[tuple[str, dict[str, Any]]]:
        """Take what came, play what is due; return what is published."""
        self.now_s = max(now_s, self.now_s)
        if self.is_down:
            return []
        for topic in list(self._queue):
            self._take(self._queue.pop(topic), with_fingers=topic.endswith("_with_fingers"))
        self.model.advance(self.now_s)
        if self.model.state.seq == self._reported or not self.reports:
            return []
        self._reported = self.model.state.seq
        return self._report()

    def _obey(self, name: str) -> None:
        if name == "in/start":
            self.model.start()
        elif name == "in/stop":
            self.model.stop()
            self._queue.clear()
        elif name == "in/home_arm":
            self.model.stop()
            self.model.start()
            self.model.body = self.body = Body(under_travel=self.under_travel)

    def _take(self, message: dict[str, Any], *, with_fingers: bool) -> None:
        velocity = [float(message.get(name, 0.0)) for name in VELOCITY]  # rosbridge fills a subset with zeros
        percent = float(message.get("fingers_closure_percentage", 0.0))
        closure = percent / 100.0 if with_fingers else self.body.closure()
        self.commands.append((self.now_s, (*velocity, percent)))
        self.model.command(Twist(np.array(velocity[:3]), np.array(velocity[3:]), closure))

    def _report(self) -> list[tuple[str, dict[str, Any]]]:
        state = self.model.state
        position, orientation = state.pose.position_m.tolist(), state.pose.orientation.tolist()
        stamp = {"secs": 5, "nsecs": 0} if self.ros == 1 else {"sec": 5, "nanosec": 0}
        header = {"stamp": stamp, "frame_id": "j2n6s300_link_base"}
        pose = {
            "position": dict(zip("xyz", position, strict=True)),
            "orientation": dict(zip("xyzw", orientation, strict=True)),
        }
        turns = (state.closure or 0.0) * TURNS
        joints = {"name": JOINTS, "position": [0.1 * n for n in range(len(JOINTS))], "velocity": [], "effort": []}
        return [
            (f"{self.name}/out/finger_position", {f"finger{n}": turns for n in (1, 2, 3)}),
            (f"{self.name}/out/joint_state", {"header": header, **joints}),
            (f"{self.name}/out/tool_pose", {"header": header, "pose": pose}),
        ]
