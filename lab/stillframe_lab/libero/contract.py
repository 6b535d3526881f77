"""How a served policy is asked in LIBERO: read from the contract at /v1/models, the rest as its family's paper does.

Knows model cards and the papers' protocols; no connection and no simulator.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from stillframe.errors import ConfigError
from stillframe_client import ModelInfo
from stillframe_client.wire.camera_names import Mount, mount_of
from stillframe_lab.libero.pictures import Mask, Picture, Vector, as_openpi, as_openvla, covered, robot_state, upright
from stillframe_lab.libero.process import AGENT, CAMERAS, WRIST, Masks, Pictures, Reading

GRIPPER = 6  # of an action
OPENPI = ("pi0", "pi05")
OPENPI_PLAYS = 5  # actions of a chunk
WHOLE_CHUNKS = ("openvla-oft",)
CROP = 0.9  # of a picture's area, for what was fine-tuned on random crops
STATE_NUMBERS = 8
ENDS = re.compile(r"(-?[0-9.e+-]+) = (open|close)")  # of a range, in a contract's words


@dataclass(frozen=True)
class Protocol:
    """How one policy is asked, and what its answers mean."""

    sources: Mapping[str, str]  # the policy's camera -> the simulator's
    size: tuple[int, int]  # of the pictures that are sent: height, width
    resize: Callable[[Picture, tuple[int, int]], Picture]
    unnorm_key: str
    execute: int  # actions of each chunk that are played
    closed: float  # the gripper's number
    opened: float
    center_crop: float | None  # the daemon's, as its contract has it

    @property
    def looks_at(self) -> tuple[str, ...]:
        """The simulator's cameras that the policy sees."""
        return tuple(camera for camera in CAMERAS if camera in self.sources.values())

    def seen(self, pictures: Pictures) -> dict[str, Picture]:
        """The simulator's pictures as the policy is sent them, by the names of its cameras."""
        return {camera: self.resize(upright(pictures[source]), self.size) for camera, source in self.sources.items()}

    def state(self, reading: Reading) -> Vector:
        """The state [8] of the robot."""
        return state_of(reading)

    def masked(self, masks: Masks) -> dict[str, Mask]:
        """The simulator's masks of these pictures, likewise."""
        return {camera: covered(upright(masks[source]), self.size) for camera, source in self.sources.items()}

    def played(self, action: Vector) -> Vector:
        """An answer's action [7] as the simulator takes it: the gripper is -1 open, 1 closed, 0 exactly between."""
        command = action.copy()
        middle = (self.opened + self.closed) / 2
        command[GRIPPER] = np.sign((action[GRIPPER] - middle) * (self.closed - self.opened))
        return command

    def described(self) -> dict[str, Any]:
        """For the results."""
        return {
            "cameras": dict(self.sources),
            "sent_px": list(self.size),
            "resize": "bilinear" if self.resize is as_openpi else "jpeg 95, lanczos3",
            "unnorm_key": self.unnorm_key,
            "execute": self.execute,
            "gripper": {"open": self.opened, "closed": self.closed},
            "center_crop": self.center_crop,
        }


def state_of(reading: Reading) -> Vector:
    """The state [8] of the robot."""
    return robot_state(reading.position, reading.quaternion, reading.fingers)


def protocol_of(info: ModelInfo, suite: str, execute: int | None = None, unnorm_key: str | None = None) -> Protocol:
    """How to ask the policy that `info` is the contract of; `execute` and `unnorm_key` win over what is found.

    Raises ConfigError for one that cannot be asked in LIBERO.
    """
    if len(info.action_names) != GRIPPER + 1:
        raise ConfigError(f"{info.name} answers {len(info.action_names)} numbers; LIBERO's arm takes {GRIPPER + 1}")
    if info.state is not None and len(info.state.names) != STATE_NUMBERS:
        raise ConfigError(f"{info.name} reads {len(info.state.names)} numbers of state; LIBERO has {STATE_NUMBERS}")
    key = unnorm_key or _unnorm_key(info, suite)
    opened, closed = _gripper(info, key)
    return Protocol(
        sources=_sources(info.cameras),
        size=info.image_size,
        resize=as_openpi if info.family in OPENPI else as_openvla,
        unnorm_key=key,
        execute=_execute(info, execute),
        closed=closed,
        opened=opened,
        center_crop=info.card["observation"].get("center_crop"),
    )


def doubts(info: ModelInfo, protocol: Protocol) -> list[str]:
    """What makes the figures other than the papers', for the user to see."""
    found = []
    if info.family not in OPENPI and protocol.center_crop is None:
        found.append(
            "the daemon looks at whole pictures; checkpoints that were fine-tuned with image augmentation, as the "
            f"published ones for LIBERO were, are asked with center_crop: {CROP} in its YAML"
        )
    if "libero" not in protocol.unnorm_key.lower():
        found.append(f"actions are scaled by {protocol.unnorm_key!r}, which is not called after LIBERO")
    return found


def _sources(cameras: tuple[str, ...]) -> dict[str, str]:
    """A camera on the hand gets the wrist's picture, any other the agent's."""
    sources = {name: WRIST if mount_of(name) is Mount.HAND else AGENT for name in cameras}
    if len({*sources.values()}) < len(sources):
        raise ConfigError(
            f"this policy sees {', '.join(cameras)}; LIBERO has {AGENT} and {WRIST}: expected at most one camera on "
            "the hand and one beside the robot"
        )
    return sources


def _unnorm_key(info: ModelInfo, suite: str) -> str:
    """The suite's statistics, as OpenVLA's evaluation looks for them; else the only ones, or the daemon's default."""
    for key in (suite, f"{suite}_no_noops"):
        if key in info.unnorm_keys:
            return key
    default = info.unnorm_keys[0] if len(info.unnorm_keys) == 1 else info.default_unnorm_key
    if default is None:
        known = ", ".join(info.unnorm_keys)
        raise ConfigError(f"{info.name} has no statistics called {suite}; choose with --unnorm-key: {known}")
    return default


def _execute(info: ModelInfo, execute: int | None) -> int:
    """How much of a chunk is played: OpenVLA-OFT all of it, openpi five, others as the daemon advises."""
    if execute is None:
        advised = info.chunk_horizon if info.family in WHOLE_CHUNKS else info.execute
        return min(OPENPI_PLAYS, info.chunk_horizon) if info.family in OPENPI else advised
    if not 1 <= execute <= info.chunk_horizon:
        raise ConfigError(f"--execute is {execute}; a chunk of {info.name} has {info.chunk_horizon} actions")
    return execute


def _gripper(info: ModelInfo, key: str) -> tuple[float, float]:
    """The gripper's numbers for open and closed: the ends of its range, of which the contract says which is which."""
    ends = {word: float(number) for number, word in ENDS.findall(info.gripper.partition(";")[0])}
    ranges = info.card["action"]["fields"][GRIPPER].get("ranges", {})
    if ends.keys() != {"open", "close"} or key not in ranges:
        raise ConfigError(
            f"the contract of {info.name} says {info.gripper!r} of the gripper and has ranges of {', '.join(ranges)}; "
            f"expected which number is open and which close, and a range of {key}"
        )
    low, high = ranges[key]
    return (high, low) if ends["open"] > ends["close"] else (low, high)
