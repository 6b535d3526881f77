"""Episodes of a policy in the simulator, in the form of a recording: for a selector to learn from, and to be judged by.

Knows the simulator; no selector.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing
from typing import Any

import numpy as np

from stillframe.domain import Observation
from stillframe.models.base import PolicyModel
from stillframe.recording.frame import RecordedFrame
from stillframe.reuse.settings import ReuseSettings
from stillframe_client.sim import JacoEnv
from stillframe_client.sim.rollout import play
from stillframe_lab.evaluation.actors import Action, LocalActor
from stillframe_lab.evaluation.chunk_actor import ChunkActor
from stillframe_lab.evaluation.evaluate import camera_sources
from stillframe_lab.evaluation.race import Observed

TASKS = ("pick", "reach", "pick")  # in turn: what there is to grasp is harder to reuse
SEED = 5_000
PERIOD_S = 0.1  # between frames


class RecordingActor(LocalActor):
    """Answers every frame whole, and keeps what it was asked with what it answered."""

    def __init__(self, model: PolicyModel):
        super().__init__(model, ReuseSettings(), measure_every=0)
        self.frames: list[RecordedFrame] = []

    def __call__(self, observed: Observed) -> Action:
        """The action due now."""
        action = super().__call__(observed)
        images = {name: np.array(image) for name, image in observed["images"].items()}
        seen = Observation(images, observed["instruction"], state=observed.get("state"))
        self.frames.append(RecordedFrame(PERIOD_S * len(self.frames), seen, self.policy.last))
        return action


def play_episodes(
    model: PolicyModel, episodes: int, execute: int, watch: Callable[[Any], None]
) -> Iterator[list[RecordedFrame]]:
    """The frames of so many episodes, no two alike; `watch` sees each as it ends."""
    sources = camera_sources(model.info.cameras)
    for number in range(episodes):
        actor = RecordingActor(model)
        with closing(JacoEnv(TASKS[number % len(TASKS)], cameras=tuple(sources.values()))) as env:
            watch(play(env, ChunkActor(actor, execute, sources), seed=SEED + number))
        yield actor.frames
