"""The arm behind kinova-ros and rosbridge_server: velocity messages out, tool poses in.

Knows no limit. The messages' translation is in the base frame and their rotation in the tool's, as a Twist has them.
"""

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING, Callable, Optional

from stillframe_client.jaco2.arms.base import ArmError, ArmInfo
from stillframe_client.jaco2.link import now_s
from stillframe_client.jaco2.rosbridge.connection import Connection
from stillframe_client.jaco2.rosbridge.dial import RosbridgeError
from stillframe_client.jaco2.rosbridge.messages import Names, velocity
from stillframe_client.jaco2.rosbridge.reports import Reports
from stillframe_client.jaco2.rosbridge.switch import Switch

if TYPE_CHECKING:
    from stillframe_client.jaco2.domain import ArmState, Twist
    from stillframe_client.jaco2.rosbridge.calls import Reply
    from stillframe_client.jaco2.settings import ArmSettings, BridgeSettings

ROSAPI_S = 1.0  # to say who listens
LEAVING_S = 2.0  # for a stop that is not confirmed yet
LOG = logging.getLogger("stillframe_client.jaco2.rosbridge")


class RosbridgeArm:
    """One driver. Threads of the connection write; the calls here come from the streamer's."""

    def __init__(self, arm: ArmSettings, connection: Connection, clock: Callable[[], float] = now_s):
        self._arm, self._connection, self._names = arm, connection, Names(arm)
        self._reports = Reports(arm.finger_turns, clock)
        self._switch = Switch(connection, self._names, clock)
        self._kept = False  # whether it was reached and is not closed

    def connect(self, timeout_s: float) -> ArmInfo:
        """Reach the server, advertise, subscribe, wait for the first tool pose. Raises ArmError."""
        connection, names, ends_s = self._connection, self._names, time.monotonic() + timeout_s
        connection.advertise(names.command, names.command_type)
        self._reports.subscribe(connection, names)
        connection.on_open(self._reached)
        try:
            connection.open(timeout_s)
        except RosbridgeError as error:
            connection.close()
            raise ArmError(str(error)) from error
        if not self._reports.first.wait(max(ends_s - time.monotonic(), 0.0)):
            connection.close()
            raise ArmError(self._no_pose(timeout_s))
        self._kept = True
        details = {"url": connection.url, "commands": f"{names.command} ({names.command_type})"}
        return ArmInfo(
            "rosbridge",
            self._arm.name,
            has_hand=self._arm.command == "with_fingers",
            reports_hz=None,
            details={**details, "subscribers": self._subscribers()},
        )

    def state(self) -> Optional[ArmState]:
        """The newest report; None: none yet."""
        self._switch.deliver()
        return self._reports.newest

    def send(self, twist: Twist) -> None:
        """Publish, or drop. Raises ArmError where the server is gone or the driver could not be started."""
        if not self._connection.is_open:
            raise ArmError(self._connection.why_closed)
        if self._switch.error:
            raise ArmError(self._switch.error)
        if self._switch.is_stopped:
            return
        try:
            self._connection.publish(self._names.command, velocity(twist, self._arm.command))
        except ValueError as error:
            raise ArmError(f"a command that is not finite was not sent: {error}") from error

    def start(self) -> None:
        """in/start, now or not at all: where it fails, the next `send` says so."""
        self._switch.start()

    def stop(self) -> None:
        """in/stop and in/clear_trajectories, on the next connect if there is none now; nothing is sent from here on."""
        self._switch.stop()
        self._connection.discard(self._names.command)

    def home(self, timeout_s: float) -> None:
        """in/home_arm, which opens the hand as well, and lets commands in at the driver. Raises ArmError."""
        if not self._switch.is_settled:
            raise ArmError("the arm is not confirmed to have stopped yet: wait for it, then go home")
        kind = self._names.service_type("kinova_msgs", "HomeArm")
        try:
            self._connection.call_and_wait(self._names.topic("in/home_arm"), {}, timeout_s, kind)
        except RosbridgeError as error:
            raise ArmError(str(error)) from error

    def close(self) -> None:
        """Hang up, once a stop that was asked for is confirmed, or has not been for LEAVING_S."""
        ends_s = time.monotonic() + LEAVING_S
        while self._kept and not self._switch.is_settled and time.monotonic() < ends_s:
            self._switch.deliver()
            time.sleep(0.01)
        if self._kept and not self._switch.is_settled:
            LOG.error("%s was not confirmed within %g s", self._names.topic("in/stop"), LEAVING_S)
        self._kept = False
        self._connection.close()

    def _reached(self) -> None:
        self._switch.reached()
        if self._kept:  # the first time `connect` asks
            self._ask_for_subscribers(self._heard_subscribers)

    def _ask_for_subscribers(self, done: Callable[[Reply], None]) -> None:
        kind = self._names.service_type(self._names.rosapi, "Subscribers")
        self._connection.call("/rosapi/subscribers", {"topic": self._names.command}, done, kind)

    def _heard_subscribers(self, reply: Reply) -> None:
        listeners = reply.values.get("subscribers")
        if not reply.error and not listeners:
            LOG.warning("%s", self._unheard())

    def _subscribers(self) -> str:
        """Who listens to the commands, in words; warns where none does."""
        kind = self._names.service_type(self._names.rosapi, "Subscribers")
        try:
            reply = self._connection.call_and_wait(
                "/rosapi/subscribers", {"topic": self._names.command}, ROSAPI_S, kind
            )
        except RosbridgeError:
            return "not known: rosapi does not answer"
        listeners = reply.get("subscribers")
        if isinstance(listeners, list) and listeners:
            return ", ".join(map(str, listeners))
        LOG.warning("%s", self._unheard())
        return f"none: {self._unheard()}"

    def _unheard(self) -> str:
        return f"no node listens to {self._names.command}: does the driver run, are arm.name and arm.prefix right?"

    def _no_pose(self, timeout_s: float) -> str:
        topic = self._names.topic("out/tool_pose")
        said = "".join(f"; rosbridge said: {error}" for error in self._connection.errors[-2:])
        return (
            f"rosbridge at {self._connection.url} answers, but nothing came on {topic} within {timeout_s:g} s: does "
            f"the driver run, are arm.name, arm.prefix and arm.ros right?{said}"
        )


def make(settings: BridgeSettings) -> RosbridgeArm:
    """The arm of the settings. Raises ArmError for an address that is none."""
    try:
        return RosbridgeArm(settings.arm, Connection(settings.arm.url))
    except RosbridgeError as error:
        raise ArmError(str(error)) from error
