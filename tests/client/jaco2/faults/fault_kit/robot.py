"""`python -m fault_kit.robot SETTINGS SWITCHES`: a whole bridge with a camera and a sim arm that can fail.

The bridge, its streamer and the camera's reader are the real ones. Knows no fault but those of camera, arm and clock.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

import numpy as np
from fault_kit.switches import Switches
from numpy.typing import NDArray

from stillframe_client.jaco2.bridge import streamer_process
from stillframe_client.jaco2.bridge.run import run
from stillframe_client.jaco2.cameras import replay
from stillframe_client.jaco2.cameras.base import CameraError, CameraUnusable
from stillframe_client.jaco2.config import load

SIZE, PERIOD_S = 64, 1 / 30
GREY, GREYS = 96, 16
CLOCK_STEP_S = 3600.0


class FaultySource:
    """A camera of 30 pictures a second, each of another grey."""

    def __init__(self, switches: Switches):
        self._switches, self._grey = switches, 0

    def open(self) -> None:
        """Nothing is opened."""
        if self._switches.is_on("camera gone"):
            raise CameraError("the camera is gone")

    def read(self) -> NDArray[np.uint8]:
        """Wait for a picture."""
        time.sleep(PERIOD_S)
        while self._switches.is_on("camera stale"):
            time.sleep(PERIOD_S)
        self.open()
        if self._switches.is_on("camera unusable"):
            raise CameraUnusable("a picture of another size")
        self._grey += not self._switches.is_on("camera frozen")
        return np.full((SIZE, SIZE, 3), GREY + self._grey % GREYS, np.uint8)

    def close(self) -> None:
        """Nothing is held."""


def step_the_clock(switches: Switches) -> None:
    """Let the time of day jump to and fro wherever it is asked for, while the switch is on."""
    told, asked = time.time, [0]

    def stepping() -> float:
        asked[0] += 1
        return told() + (CLOCK_STEP_S * (-1) ** asked[0] if switches.is_on("clock") else 0.0)

    time.time = stepping


if __name__ == "__main__":
    switches = Switches(Path(sys.argv[2]))
    step_the_clock(switches)
    replay.make = lambda settings, bridge: FaultySource(switches)  # type: ignore[assignment,return-value] # noqa: ARG005
    streamer_process.PROGRAM = ("-m", "fault_kit.streamer", sys.argv[2])
    sys.exit(run(load(Path(sys.argv[1])), dry=False))
