"""The kitchen as an environment: reset with a seed, step with an action, look.

Knows no policy and no server. Same seed and same actions give bit-identical pictures on one machine.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from stillframe_client.sim.experts import GRASP_ABOVE_CUBE_M
from stillframe_client.sim.kitchen.experts import kitchen_action
from stillframe_client.sim.kitchen.stain import stain_shapes
from stillframe_client.sim.kitchen.state import KitchenState
from stillframe_client.sim.kitchen.tasks import EPISODE_S, KitchenReferee, known_task
from stillframe_client.sim.kitchen.world import KitchenWorld
from stillframe_client.sim.sensors import SensorNoise
from stillframe_client.sim.shapes import Shape
from stillframe_client.sim.state import Vector
from stillframe_client.sim.table_env import PERFECT, Ended, Observed, Seeing, TableEnv, only_known


class KitchenEnv(TableEnv):
    """One arm, one table, what one task needs. Not thread-safe: draw in the thread that drew first."""

    world: KitchenWorld

    def __init__(
        self,
        task: str,
        hz: int = 10,
        cameras: Sequence[str] = ("front",),
        image_px: int = 224,
        noise: SensorNoise = PERFECT,
        max_steps: int | None = None,
        *,
        distractor: bool = False,
        masks: bool = False,
    ):
        """Build the scene of one of kitchen.TASKS. `max_steps` None: 18 s. The rest is as in JacoEnv."""
        seeing = Seeing(tuple(cameras), image_px, noise, distractor, masks)
        self.task, self.name = known_task(task), task
        super().__init__(KitchenWorld(hz, self.task.things), seeing, max_steps)

    @property
    def instruction(self) -> str:
        """See TableEnv."""
        return self.task.instruction

    @property
    def max_steps(self) -> int:
        """After this many steps the episode is cut off."""
        return self._max_steps or round(EPISODE_S * self.world.hz)

    def reset(
        self, *, seed: int | None = None, options: Mapping[str, str] | None = None
    ) -> tuple[Observed, dict[str, Any]]:
        """Begin an episode; all that is drawn is drawn from the seed. Raises ValueError for any option."""
        only_known(options or {}, ("task",))
        if (options or {}).get("task", self.name) != self.name:
            raise ValueError(f"this scene is laid for {self.name}; expected an environment of its own for another task")
        scene, sensor, crates = (np.random.default_rng(part) for part in np.random.SeedSequence(seed).spawn(3))
        self._begin(scene, sensor, crates)
        self._referee = KitchenReferee(self.task, self.state())
        return self.observe(), self._info(success=False)

    def judge(self) -> Ended:
        """See TableEnv."""
        self._steps += 1
        success = self._referee.judge(self.state())
        truncated = not success and self._steps >= self.max_steps
        self._over = success or truncated
        return success, truncated, self._info(success=success)

    def state(self) -> KitchenState:
        """The privileged truth, for experts and referees."""
        return self.world.state()

    def expert(self) -> Vector:
        """See TableEnv."""
        return kitchen_action(self.state(), self.task)

    def shapes(self) -> list[Shape]:
        """What is drawn now beside the world: crates that go by, the stain."""
        return [*super().shapes(), *stain_shapes(self.state())]

    def _as_cube(self, thing: str) -> Vector:
        return np.asarray(self.state().grasp(thing) - [0.0, 0.0, GRASP_ABOVE_CUBE_M])

    def _judge_from_here(self) -> None:
        self._referee = KitchenReferee(self.task, self.state())

    def _named(self) -> Sequence[str]:
        return self.task.things

    def _info(self, *, success: bool) -> dict[str, Any]:
        return {
            "success": success,
            "wrong_object": False,
            "touched": self.world.touched(),
            "steps": self._steps,
            "task": self.name,
        }
