"""Labels of a frame for chunks: what the expert would do from here on, for three instructions, and the arm's state.

Knows the environment and its expert; no network.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from stillframe.models.actions import ActionScale
from stillframe_client.sim import COLOURS, Goal, JacoEnv
from stillframe_client.sim.experts import expert_action
from stillframe_client.sim.proprioception import proprioception
from stillframe_lab.train.demonstrations import Collection, label
from stillframe_lab.train.frame_store import Labels
from stillframe_lab.train.recipe import INSTRUCTIONS

BRANCHES = 3  # instructions that each frame is labelled for, a reach and a pick among them


@dataclass(frozen=True)
class ChunkLabels(Labels):
    """Labels of each frame, chunks among them."""

    goals: NDArray[np.int64]  # [frames, BRANCHES] indices of INSTRUCTIONS
    chunks: NDArray[np.float32]  # [frames, BRANCHES, horizon, 7], normalised to [-1, 1]; gripper 0 or 1
    state: NDArray[np.float64]  # [frames, 7], as the arm reports it


@dataclass(frozen=True)
class ChunkCollection(Collection):
    """A collection whose frames are labelled with chunks."""

    horizon: int = 8

    @property
    def variant(self) -> tuple[str, ...]:
        """Its horizon as well."""
        return (*self.cameras[1:], str(self.horizon))

    def label(self, env: JacoEnv, scale: ActionScale, rng: np.random.Generator) -> ChunkLabels:
        """See Collection. Of the instructions the episode's own is one."""
        known = label(env, scale, self.cameras[0])
        pick, reach = (Goal(task, str(rng.choice(COLOURS))) for task in ("pick", "reach"))
        goals = [Goal(env.goal.task, env.goal.colour), pick, reach]
        chunks = np.stack([expert_chunk(env, goal, self.horizon) for goal in goals])
        return ChunkLabels(
            actions=known.actions,
            points_m=known.points_m,
            points_px=known.points_px,
            finger_rad=known.finger_rad,
            goals=np.array([[INSTRUCTIONS.index(goal) for goal in goals]]),
            chunks=scale.normalise(chunks)[None].astype(np.float32),
            state=proprioception(env.world.arm)[None],
        )


def expert_chunk(env: JacoEnv, goal: Goal, horizon: int) -> NDArray[np.float64]:
    """The expert's next actions [horizon, 7] for a goal, each from what the ones before it led to.

    They are played in the environment's own world, which comes back to where it was, to the bit.
    """
    world, actions = env.world, []
    now = world.snapshot()
    for _ in range(horizon):
        actions.append(expert_action(world.state(), goal.task, goal.colour))
        world.act(actions[-1])
    world.restore(now)
    return np.stack(actions)
