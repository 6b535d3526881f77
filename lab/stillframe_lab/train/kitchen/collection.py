"""Frames of the kitchen: one of its tasks an episode, each frame labelled with what its expert does from there on.

Knows the environment and its expert; no network.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast

import numpy as np
from numpy.typing import NDArray

from stillframe.models.actions import ActionScale
from stillframe_client.sim.kitchen import KitchenEnv, KitchenState, KitchenTask
from stillframe_client.sim.proprioception import proprioception
from stillframe_client.sim.table_env import TableEnv
from stillframe_lab.train.demonstrations import Collection, Mixture, put_arm
from stillframe_lab.train.kitchen.recipe import NAMES, SHARES
from stillframe_lab.train.libero.dataset import TaskLabels


class KitchenScenes:
    """An environment of each task. Implements Scenes."""

    def __init__(self, mixture: Mixture):
        self._mixture = mixture
        self._envs = {name: KitchenEnv(name, cameras=(), max_steps=mixture.max_steps) for name in NAMES}

    def begin(self, rng: np.random.Generator) -> KitchenEnv:
        """See Scenes."""
        env = self._envs[str(rng.choice(NAMES, p=SHARES))]
        env.reset(seed=int(rng.integers(2**31)))
        put_arm(env, self._mixture.start(rng), env.task.moved, rng)
        return env

    def away_m(self, env: TableEnv) -> float:
        """See Scenes: from where the tool grasps."""
        own = cast(KitchenEnv, env)
        state = own.state()
        return float(np.linalg.norm(state.tool_pos - state.grasp(own.task.moved)))

    def close(self) -> None:
        """See Scenes."""
        for env in self._envs.values():
            env.close()


@dataclass(frozen=True)
class KitchenCollection(Collection):
    """A collection of the kitchen's frames."""

    horizon: int = 8
    scene: str = "kitchen"

    @property
    def variant(self) -> tuple[str, ...]:
        """See Collection."""
        return (self.scene, *self.cameras[1:], str(self.horizon))

    def scenes(self) -> KitchenScenes:
        """See Collection."""
        return KitchenScenes(self.mixture)

    def label(self, env: KitchenEnv, scale: ActionScale, rng: np.random.Generator) -> TaskLabels:  # noqa: ARG002
        """See Collection. Points: what is grasped, what it is for, the hand."""
        state = env.state()
        points = np.stack([state.grasp(env.task.moved), aim_of(state, env.task), state.tool_pos])
        chunk = scale.normalise(expert_chunk(env, self.horizon))[None].astype(np.float32)
        return TaskLabels(
            actions=chunk[:, :1],
            points_m=points[None].astype(np.float32),
            points_px=env.project(self.cameras[0], points)[None].astype(np.float32),
            finger_rad=np.array([state.finger_angle], np.float32),
            chunks=chunk,
            state=proprioception(env.world.arm)[None],
            task=np.array([NAMES.index(env.name)]),
        )


def aim_of(state: KitchenState, task: KitchenTask) -> NDArray[np.float64]:
    """Where [3] what is grasped is to go: into its goal, or to the left end of what is left of the stain."""
    left = [cell for cell, wiped in zip(state.stain, state.wiped, strict=True) if not wiped]
    return left[0] if left else state.pos[task.goal or task.moved]


def expert_chunk(env: KitchenEnv, horizon: int) -> NDArray[np.float64]:
    """The expert's next actions [horizon, 7], each from what the ones before it led to; the world comes back."""
    world, actions = env.world, []
    now = world.snapshot()
    for _ in range(horizon):
        actions.append(env.expert())
        world.act(actions[-1])
    world.restore(now)
    return np.stack(actions)
