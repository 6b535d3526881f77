"""`python -m fault_kit.streamer SWITCHES FD SETTINGS LOG`: the streamer, with a sim arm that can fail."""

from __future__ import annotations

import math
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
from fault_kit.switches import Switches

from stillframe_client.jaco2.arms import sim
from stillframe_client.jaco2.arms.base import ArmError
from stillframe_client.jaco2.domain import ArmState, ToolPose, Twist
from stillframe_client.jaco2.settings import BridgeSettings
from stillframe_client.jaco2.streamer.process import main

SWITCHES = Switches(Path(sys.argv[1]))


class FaultySim(sim.SimArm):
    """The sim arm."""

    _last: ArmState | None = None

    def state(self) -> ArmState:
        """The newest report, or the last that it gave."""
        newest = super().state()
        if self._last is None or not (newest.seq == self._last.seq or SWITCHES.is_on("arm mute")):
            self._last = replace(newest, pose=self._reported(newest.pose))
        return self._last

    def send(self, twist: Twist) -> None:
        """Command it."""
        if SWITCHES.is_on("arm dead"):
            raise ArmError("the driver is gone")
        if not SWITCHES.is_on("arm blocked"):
            super().send(twist)

    def _reported(self, pose: ToolPose) -> ToolPose:
        if SWITCHES.is_on("arm jumps"):
            return replace(pose, position_m=pose.position_m + np.array([0.0, 0.1, 0.0]))
        return replace(pose, position_m=np.full(3, math.nan)) if SWITCHES.is_on("arm nan") else pose


def make(settings: BridgeSettings) -> FaultySim:
    """The arm of the settings."""
    arm = settings.arm
    return FaultySim(arm.name, loss=arm.loss, under_travel=arm.under_travel, clock=sim.monotonic_s)


if __name__ == "__main__":
    sim.make = make
    sys.exit(main(int(sys.argv[2]), Path(sys.argv[3]), Path(sys.argv[4]), dry=sys.argv[5:] == ["dry"]))
