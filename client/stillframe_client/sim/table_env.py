"""An arm at a table as an environment: step with an action, look through its cameras, be judged.

Knows no task, no policy and no server; a subclass brings its scene and its tasks. Same seed and same actions give
bit-identical pictures on one machine.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stillframe_client.sim import teleport
from stillframe_client.sim.camera import Cameras
from stillframe_client.sim.distractor import Crates
from stillframe_client.sim.proprioception import proprioception
from stillframe_client.sim.scene import CAMERAS
from stillframe_client.sim.sensors import Picture, SensorNoise
from stillframe_client.sim.shapes import Shape
from stillframe_client.sim.state import FINGER_OPEN_RAD, Vector
from stillframe_client.sim.table_world import TableWorld

PERFECT = SensorNoise()
HAND = "arm_hand_"  # how names of the hand's bodies begin

# "images": {camera: uint8 [px, px, 3]}, "instruction": str, "state": float64 [7]; "masks": {camera: bool [px, px]}.
Observed = dict[str, Any]
Ended = tuple[bool, bool, dict[str, Any]]  # terminated, truncated, info


@dataclass(frozen=True)
class Seeing:
    """How an environment looks at its scene."""

    cameras: Sequence[str] = ("front",)  # may be empty: then nothing is drawn
    image_px: int = 224
    noise: SensorNoise = PERFECT
    distractor: bool = False  # whether crates go by behind the table
    masks: bool = False  # whether observations hold masks of what matters

    def __post_init__(self) -> None:
        unknown = [camera for camera in self.cameras if camera not in CAMERAS]
        if unknown:
            raise ValueError(f"unknown camera {unknown[0]!r}; expected some of {', '.join(CAMERAS)}")
        if self.image_px < 16:
            raise ValueError(f"image_px is {self.image_px}; expected at least 16 pixels")


class TableEnv:
    """One world, one instruction at a time. Not thread-safe: draw in the thread that drew first."""

    world: TableWorld

    def __init__(self, world: TableWorld, seeing: Seeing, max_steps: int | None):
        if max_steps is not None and max_steps < 1:
            raise ValueError(f"max_steps is {max_steps}; expected at least 1 step")
        self.world, self._seeing, self._max_steps = world, seeing, max_steps
        self._eyes = Cameras(world.model, world.data, world.laser, seeing.image_px)
        self._begun, self._over, self._steps = False, False, 0

    def reset(
        self, *, seed: int | None = None, options: Mapping[str, str] | None = None
    ) -> tuple[Observed, dict[str, Any]]:
        """Begin an episode; what `options` leave out is drawn from the seed. Raises ValueError for an unknown one."""
        raise NotImplementedError

    def step(self, action: Vector) -> tuple[Observed, float, bool, bool, dict[str, Any]]:
        """Carry out one action [7]: metres and radians per step in the world frame, gripper 0 closes and 1 opens.

        Returns observation, reward (1.0 on success), terminated, truncated, info. Beyond 0.20 m/s and 1.0 rad/s the
        action is clipped. Raises ValueError for a wrong shape or a number that is not finite, RuntimeError when over.
        """
        if not self._begun or self._over:
            raise RuntimeError("the episode is over or has not begun; expected reset() before step()")
        self._carry_out(_checked(action))
        terminated, truncated, info = self.judge()
        return self.observe(), float(info["success"]), terminated, truncated, info

    def judge(self) -> Ended:
        """A control period has gone by in `world`: return terminated, truncated, info. For what steps it by itself."""
        raise NotImplementedError

    @property
    def instruction(self) -> str:
        """What is asked for in this episode, in the words that a policy is given."""
        raise NotImplementedError

    def expert(self) -> Vector:
        """The expert's action [7] for what is due now."""
        raise NotImplementedError

    def teleport(
        self,
        rng: np.random.Generator,
        *,
        near: str | None = None,
        finger_rad: float = FINGER_OPEN_RAD,
        holding: str | None = None,
    ) -> Observed:
        """Put the arm somewhere else at once: anywhere, near a thing, or holding one (grasped and partly lifted).

        `finger_rad` is 0.25 open to 1.25 closed; it does not apply to `holding`. Things stay, but for the held one.
        """
        if holding is not None:
            teleport.hold(self.world, rng, self._as_cube(holding))
        else:
            teleport.place_anywhere(self.world, rng, None if near is None else self._as_cube(near), finger_rad)
        self._judge_from_here()  # what the teleport did does not count
        return self.observe()

    def observe(self) -> Observed:
        """What a policy gets now, through the sensors: noise is drawn anew at each call, but for the arm's state."""
        cameras, noise = self._seeing.cameras, self._seeing.noise
        images = {name: noise.spoil(self.render(name), self._sensor_rng) for name in cameras}
        masks = {"masks": {name: self.mask(name) for name in cameras}} if self._seeing.masks else {}
        return {"images": images, "instruction": self.instruction, "state": proprioception(self.world.arm), **masks}

    def render(self, camera: str = "front") -> Picture:
        """Draw uint8 [image_px, image_px, 3] without noise, from any camera of the scene."""
        return self._eyes.picture(camera, self.shapes())

    def mask(self, camera: str = "front") -> NDArray[np.bool_]:
        """Which pixels [image_px, image_px] of a camera's picture show the hand, or a thing that the task names."""
        bodies = [self.world.model.body(at).name for at in range(self.world.model.nbody)]
        return self._eyes.mask(camera, [*self._named(), *(name for name in bodies if name.startswith(HAND))])

    def shapes(self) -> list[Shape]:
        """What is drawn now beside the world: crates that go by, and a subclass's own."""
        return self._crates.boxes(self.world.time_s) if self._crates else []

    def project(self, camera: str, points_m: Vector) -> NDArray[np.float64]:
        """Where points [n, 3] of the world land in a camera's picture: [n, 2] pixels, u right, v down."""
        return self._eyes.project(camera, points_m)

    def close(self) -> None:
        """Free the OpenGL context."""
        self._eyes.close()

    def _begin(self, scene: np.random.Generator, sensor: np.random.Generator, crates: np.random.Generator) -> None:
        """An episode begins: each stream draws its own part of it."""
        self._sensor_rng = sensor
        self._crates = Crates.drawn(crates) if self._seeing.distractor else None
        self.world.reset(scene)
        self._begun, self._over, self._steps = True, False, 0

    def _carry_out(self, action: Vector) -> None:
        """Let one control period go by with the action [7]."""
        self.world.act(action)

    def _as_cube(self, thing: str) -> Vector:
        """The middle [3] of a thing that is a cube, or of one that would be grasped from where it is."""
        raise NotImplementedError

    def _judge_from_here(self) -> None:
        """What has been done so far does not count."""
        raise NotImplementedError

    def _named(self) -> Sequence[str]:
        """The bodies that the instruction names."""
        raise NotImplementedError


def only_known(options: Mapping[str, str], known: Sequence[str]) -> None:
    """Raises ValueError for an option that a reset does not know."""
    unknown = set(options) - set(known)
    if unknown:
        raise ValueError(f"unknown option {sorted(unknown)[0]!r}; expected {', '.join(known)}")


def _checked(action: Vector) -> Vector:
    """The action as float64 [7], or a ValueError that says what is wrong with it."""
    numbers = np.asarray(action, np.float64)
    if numbers.shape != (7,):
        raise ValueError(
            f"the action has shape {numbers.shape}; expected (7,): dx, dy, dz, droll, dpitch, dyaw, gripper"
        )
    if not np.isfinite(numbers).all():
        raise ValueError(f"the action holds {numbers[~np.isfinite(numbers)][0]}; expected finite numbers only")
    return numbers
