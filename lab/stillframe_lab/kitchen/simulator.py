"""The kitchen behind the protocol of LIBERO's simulator: one task open at a time, in this process.

Knows the environment; no policy. An episode is a seed: initial state 7 is what seed 7 draws.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from stillframe_client.sim.engine import mujoco
from stillframe_client.sim.kitchen import TASKS, KitchenEnv
from stillframe_client.sim.proprioception import proprioception
from stillframe_client.sim.scene import CAMERAS
from stillframe_lab.libero.pictures import Vector, upright
from stillframe_lab.libero.process import Masks, Pictures, Reading, Scene

NAMES = tuple(TASKS)
HZ = 10  # control steps a second


@dataclass(frozen=True)
class KitchenReading(Reading):
    """What the simulator says after a reset or a step. Of `objects` positions alone; `fingers`: their angle, rad."""

    state: Vector  # [7] of the arm, as it reports it


class KitchenSimulator:
    """Implements libero.episode.Simulator. Belongs to the thread that draws first."""

    def __init__(self, *, distractor: bool = False):
        self._distractor = distractor
        self._env: KitchenEnv | None = None

    def open(self, suite: str, task: int) -> Scene:  # noqa: ARG002 (there is one)
        """Lay the table for a task, by its number."""
        self.close()
        self._env = KitchenEnv(NAMES[task], HZ, cameras=(), distractor=self._distractor)
        versions = {"mujoco": str(mujoco.__version__)}
        return Scene(self._env.instruction, 0, self._env.task.things, {}, versions)

    def reset(self, init_state: int | None, seed: int) -> KitchenReading:  # noqa: ARG002 (a seed says it all)
        """Begin an episode, as the seed draws it."""
        self._opened.reset(seed=seed)
        return self._reading(success=False)

    def step(self, action: Vector) -> KitchenReading:
        """Apply an action [7] for one control step, 100 ms."""
        _, _, success, _, _ = self._opened.step(action)
        return self._reading(success=success)

    def pictures(self, cameras: Sequence[str] = tuple(CAMERAS)) -> Pictures:
        """Draw these cameras as they are now, turned as LIBERO's simulator turns its own."""
        return {camera: upright(self._opened.render(camera)) for camera in cameras}

    def masks(self, cameras: Sequence[str] = tuple(CAMERAS)) -> Masks:
        """Which pixels of these cameras' pictures show the hand, or a thing that the task is about; turned likewise."""
        return {camera: upright(self._opened.mask(camera)) for camera in cameras}

    def expert(self) -> Vector:
        """The expert's action [7] now."""
        return self._opened.expert()

    def close(self) -> None:
        """Free what draws."""
        if self._env is not None:
            self._env.close()
            self._env = None

    @property
    def _opened(self) -> KitchenEnv:
        if self._env is None:
            raise RuntimeError("no task is open; expected open() first")
        return self._env

    def _reading(self, *, success: bool) -> KitchenReading:
        world = self._opened.world
        pose, state = world.arm.pose, world.state()
        return KitchenReading(
            position=pose.pos,
            quaternion=pose.quat[[1, 2, 3, 0]],
            fingers=np.array([state.finger_angle]),
            success=success,
            objects=dict(state.pos),
            state=proprioception(world.arm),
        )
