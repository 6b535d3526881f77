"""The policy in training as the leader of a demonstration: it plays until the expert takes over from wherever it is.

Knows a policy in this process, and how it is sent pictures; no simulator's process.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from stillframe_lab.libero.contract import GRIPPER, state_of
from stillframe_lab.libero.pictures import Vector, as_openvla, upright
from stillframe_lab.libero.process import CAMERAS, Pictures, Reading, Scene
from stillframe_lab.train.demonstrations import Imitator
from stillframe_lab.train.libero.recipe import LiberoRecipe

LEADS = (10, 110)  # steps: from the first approach to past the goal


class PolicyLeader:
    """Leads as the policy would play. Implements recording.Leader."""

    def __init__(self, policy: Imitator, recipe: LiberoRecipe):
        self._policy, self._px = policy, recipe.image_px
        self._sources = dict(zip(recipe.cameras, CAMERAS, strict=False))  # the policy's camera -> the simulator's
        self._instruction = ""

    def begin(self, scene: Scene, rng: np.random.Generator) -> int:
        """See Leader."""
        self._instruction = scene.instruction
        self._policy.reset()
        return int(rng.integers(*LEADS))

    def action(self, reading: Reading, draw: Callable[[Sequence[str]], Pictures]) -> Vector:
        """See Leader."""
        observed = {"state": state_of(reading), "instruction": self._instruction}
        if self._policy.asks:
            drawn = draw([*self._sources.values()])
            size = (self._px, self._px)
            observed["images"] = {name: as_openvla(upright(drawn[at]), size) for name, at in self._sources.items()}
        action = self._policy(observed)
        return np.concatenate([action[:GRIPPER], np.sign(1 - 2 * action[GRIPPER:])])
