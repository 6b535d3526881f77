"""The `sim` arm: a kinematic tool behind the driver's queue, in the streamer's own process. Needs nothing else.

Knows no physics: dry logic at home, and the tests' arm.
"""

from __future__ import annotations

from random import Random
from typing import TYPE_CHECKING, Callable

from stillframe_client.jaco2.arms.base import ArmInfo
from stillframe_client.jaco2.arms.driver import REPORT_S, DriverModel
from stillframe_client.jaco2.arms.kinematic import KinematicBody
from stillframe_client.jaco2.link import now_s as monotonic_s

if TYPE_CHECKING:
    from stillframe_client.jaco2.domain import ArmState, Twist
    from stillframe_client.jaco2.settings import BridgeSettings


class SimArm:
    """Loses a share of the commands, and moves a share less than it is told."""

    def __init__(self, name: str, *, loss: float, under_travel: float, clock: Callable[[], float], seed: int = 0):
        self._name, self._loss, self._clock, self._chance = name, loss, clock, Random(seed)  # noqa: S311 -- no secret
        self.driver = DriverModel(KinematicBody(under_travel=under_travel), clock())

    def connect(self, timeout_s: float) -> ArmInfo:  # noqa: ARG002 -- there is nothing to wait for
        """There is nothing to reach."""
        return ArmInfo("sim", self._name, has_hand=True, reports_hz=1 / REPORT_S, details={"body": "kinematic"})

    def state(self) -> ArmState:
        """The newest report."""
        self.driver.advance(self._clock())
        return self.driver.state

    def send(self, twist: Twist) -> None:
        """One point, unless it gets lost."""
        self.driver.advance(self._clock())
        if self._chance.random() >= self._loss:
            self.driver.command(twist)

    def start(self) -> None:
        """Let commands in."""
        self.driver.start()

    def stop(self) -> None:
        """Erase the queue."""
        self.driver.stop()

    def home(self, timeout_s: float) -> None:  # noqa: ARG002 -- it is there at once
        """It is where it began."""
        self.driver.body = KinematicBody()

    def close(self) -> None:
        """Nothing is held."""


def make(settings: BridgeSettings) -> SimArm:
    """The arm of the settings."""
    arm = settings.arm
    return SimArm(arm.name, loss=arm.loss, under_travel=arm.under_travel, clock=monotonic_s)
