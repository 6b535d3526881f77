"""What the rooms of the bridge hand each other: poses, arm states, twists, steps.

Knows no robot, no wire and no clock. Positions are metres in the arm's base frame, orientations are unit quaternions
x, y, z, w that turn the tool's frame into the base's, times are seconds of time.monotonic.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Optional, Tuple

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Vector = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class ToolPose:
    """Where the tool is, in the base frame."""

    position_m: Vector  # [3]
    orientation: Vector  # [4] x, y, z, w


@dataclass(frozen=True, eq=False)
class ArmState:
    """What an arm reported of itself. `seq` grows with each report; `time_s` is when it arrived here."""

    seq: int
    time_s: float
    pose: ToolPose
    closure: Optional[float] = None  # of the hand: 0 open, 1 closed; None: not reported
    joints_rad: Optional[Tuple[float, ...]] = None  # None: not reported


@dataclass(frozen=True, eq=False)
class Twist:
    """One command: how the tool moves until the next one, and how far the hand is to be closed."""

    linear_m_s: Vector  # [3] in the base frame
    angular_rad_s: Vector  # [3] in the tool's frame
    closure: float  # 0 open, 1 closed


@dataclass(frozen=True, eq=False)
class Step:
    """One action of a policy as the bridge hands it on: a movement that takes `lasts_s`, and the gripper."""

    seq: int
    delta: Vector  # [6] dx, dy, dz in metres, droll, dpitch, dyaw in radians, in the policy's frame
    gripper: float  # 0 closed, 1 open
    lasts_s: float
    deadline_s: float  # without a newer step by then the arm comes to rest
