"""What the simulated arm knows of itself: the state that a policy may read beside the pictures.

Knows no cube, no goal and no noise: numbers as a perfect encoder would give them. Reading them changes nothing.
"""

from __future__ import annotations

import numpy as np

from stillframe_client.sim.arm import Arm
from stillframe_client.sim.state import FINGER_CLOSED_RAD, FINGER_OPEN_RAD, Vector

# The tool is the point between the fingertips, in the world frame: x away from the arm's base, y to its left, z up. Its
# rotation is the vector that takes the home orientation, pointing straight down, to the tool's; 1 is an open hand.
STATE_NAMES = ("tool_x", "tool_y", "tool_z", "tool_rx", "tool_ry", "tool_rz", "opening")
STATE_UNITS = ("m", "m", "m", "rad", "rad", "rad", "1")


def proprioception(arm: Arm) -> Vector:
    """Return the state [7] of this instant, float64, as STATE_NAMES and STATE_UNITS say."""
    tool = arm.pose
    opening = (FINGER_CLOSED_RAD - arm.finger_angle) / (FINGER_CLOSED_RAD - FINGER_OPEN_RAD)
    return np.array([*tool.pos, *arm.home.turn_to(tool), min(max(opening, 0.0), 1.0)], np.float64)
