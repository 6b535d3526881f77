"""What fine-tuning takes from its command line and writes nowhere: chunk, statistics, cameras, what numbers mean.

Knows the three robots that the reference has constants for; no file. Source: moojink/openvla-oft
prismatic/vla/constants.py, experiments/robot.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from stillframe.models.prismatic.checks import ACTION_NAMES
from stillframe.models.scales import ENDS

BOUNDS = ("min", "max")
_ARM = ("waist", "shoulder", "elbow", "forearm_roll", "wrist_angle", "wrist_rotate", "gripper")
_BOTH_ARMS = tuple(f"{side}_{joint}" for side in ("left", "right") for joint in _ARM)
_BOTH_UNITS = ("rad",) * 6 + ("1",)


@dataclass(frozen=True)
class Platform:
    """One robot's constants."""

    name: str
    word: str  # in the names of its data sets
    chunk: int  # actions in one answer
    ends: tuple[str, str]  # statistics that are -1 and 1 of the normalised range
    cameras: tuple[str, ...]
    action_names: tuple[str, ...]
    state_names: tuple[str, ...]
    state_units: tuple[str, ...]

    def fits(self, action_dim: int, state_dim: int | None) -> bool:
        """Whether heads of these sizes can be its; None: the state is not read."""
        return action_dim == len(self.action_names) and state_dim in (None, len(self.state_names))

    def named(self, data_sets: Collection[str]) -> bool:
        """Whether a data set is called after it."""
        return any(self.word in key.lower() for key in data_sets)


PLATFORMS = (
    Platform(
        "LIBERO", "libero", 8, ENDS, ("image", "wrist"), ACTION_NAMES,
        ("x", "y", "z", "axis_angle_x", "axis_angle_y", "axis_angle_z", "gripper_left", "gripper_right"),
        ("m", "m", "m", "rad", "rad", "rad", "m", "m"),
    ),
    Platform(
        "ALOHA", "aloha", 25, BOUNDS, ("image", "left_wrist", "right_wrist"), _BOTH_ARMS, _BOTH_ARMS, _BOTH_UNITS * 2
    ),
    Platform(
        "Bridge", "bridge", 5, ENDS, ("image",), ACTION_NAMES,
        ("x", "y", "z", "roll", "pitch", "yaw", "gripper"), ("m", "m", "m", "rad", "rad", "rad", "1"),
    ),
)  # fmt: skip


def platform_of(data_sets: Collection[str], action_dim: int, state_dim: int | None) -> Platform | None:
    """The robot that a checkpoint was fine-tuned for: by its data sets' names, else by its heads' sizes. None: neither.

    The reference goes by the command line, and where that says nothing takes LIBERO's constants.
    """
    fitting = [platform for platform in PLATFORMS if platform.fits(action_dim, state_dim)]
    named = [platform for platform in fitting if platform.named(data_sets)]
    if named:
        return named[0]
    return fitting[0] if state_dim is not None and len(fitting) == 1 else None
