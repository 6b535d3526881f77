"""What openpi's training configurations know and no checkpoint says: cameras, what numbers mean, what is added to them.

Knows the robots that openpi has policies for; no file. Source: openpi training/config.py, policies/.
"""

from __future__ import annotations

from dataclasses import dataclass

from stillframe.models.prismatic.checks import ACTION_NAMES

SLOTS = ("base_0_rgb", "left_wrist_0_rgb", "right_wrist_0_rgb")  # in the order of their patches
_ARM = ("waist", "shoulder", "elbow", "forearm_roll", "wrist_angle", "wrist_rotate", "gripper")
_ALOHA = tuple(f"{side}_{joint}" for side in ("left", "right") for joint in _ARM)
_ALOHA_UNITS = (("rad",) * 6 + ("1",)) * 2
_DROID = tuple(f"joint_{at}" for at in range(7))


@dataclass(frozen=True)
class Platform:
    """One robot's."""

    name: str
    words: tuple[str, ...]  # in the names of its assets
    cameras: tuple[str, ...]
    action_names: tuple[str, ...]
    state_names: tuple[str, ...]
    state_units: tuple[str, ...]
    gripper: str  # of the ends of its range
    deltas: bool  # pi0 was trained on differences to the state; pi0.5 on LIBERO was not
    state_in_prompt: bool = True  # of pi0.5
    adapted: bool = False  # trained on numbers as openpi's own robots say them: see aloha.py


PLATFORMS = (
    Platform(
        "LIBERO", ("libero",), SLOTS[:2], ACTION_NAMES,
        ("x", "y", "z", "axis_angle_x", "axis_angle_y", "axis_angle_z", "gripper_left", "gripper_right"),
        ("m", "m", "m", "rad", "rad", "rad", "m", "m"), "0 = open, 1 = close", deltas=True, state_in_prompt=False,
    ),
    Platform(
        "ALOHA's simulator", ("aloha_sim",), SLOTS[:1], _ALOHA, _ALOHA, _ALOHA_UNITS, "0 = close, 1 = open",
        deltas=False, adapted=True,
    ),
    Platform(
        "ALOHA", ("aloha", "trossen"), SLOTS, _ALOHA, _ALOHA, _ALOHA_UNITS, "0 = close, 1 = open",
        deltas=True, adapted=True,
    ),
    Platform(
        "DROID", ("droid", "franka"), SLOTS[:2], (*(f"{name}_velocity" for name in _DROID), "gripper"),
        (*_DROID, "gripper"), (*("rad",) * 7, "1"), "0 = open, 1 = close", deltas=False,
    ),
)  # fmt: skip


def platform_of(assets: tuple[str, ...]) -> Platform | None:
    """The first robot that all assets are called after; None: none is."""
    for platform in PLATFORMS:
        if assets and all(any(word in asset.lower() for word in platform.words) for asset in assets):
            return platform
    return None
