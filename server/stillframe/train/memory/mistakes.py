"""Scenes to which a policy itself brings the arm, with the expert's labels for what it should have done there (DAgger).

Knows the simulator and a checkpoint with a memory. Where a policy hovers between two cubes no drawn scene ever is.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch

from stillframe.engine.recalling import Recalling
from stillframe.local import LocalPolicy
from stillframe.memory.files import load_memory
from stillframe.models.actions import ActionScale
from stillframe.models.registry import load_policy
from stillframe.train.frames import FrameStore, FrameWriter, map_images, read_labels
from stillframe.train.memory.episodes import EVERYTHING
from stillframe.train.memory.scenery import Scenes
from stillframe.train.memory.scenes import LAMPS_VERSION, SceneLabels, labelled
from stillframe_client.sim import JacoEnv

DELAYS = (0, 8, 24)  # steps, in turn: what is waited for is not what is learnt here
FIRST_SEED = 800_000  # none that an evaluation plays


@dataclass(frozen=True)
class WantedMistakes:
    """Which: of episodes of one variant, every so many free steps."""

    variant: str
    scenes: int
    every: int
    image_px: int
    seed: int = FIRST_SEED

    @property
    def origin(self) -> str:
        """What a store of these scenes says of itself."""
        return json.dumps({"lamps": LAMPS_VERSION, **asdict(self)})


def mistakes_in(
    folder: Path, wanted: WantedMistakes, checkpoint: Path, scale: ActionScale, watch: Callable[[int], None]
) -> Scenes:
    """The scenes of `folder`, played by `checkpoint` if they are not there. Raises ConfigError where others are."""
    if not FrameStore.exists(folder):
        _play(folder, wanted, _looking_back(checkpoint), scale, watch)
    labels = read_labels(folder, wanted.origin, SceneLabels)
    images = map_images(folder, wanted.scenes, wanted.image_px)[:, 0]
    points = (labels.points_m, labels.points_px, labels.finger_rad)
    played = np.ones(len(images), np.bool_)
    return Scenes(images, labels.actions, *points, labels.shown, labels.marked, labels.late, played)


def _looking_back(checkpoint: Path) -> LocalPolicy:
    """The policy, with all of its history."""
    device = torch.device("cpu")
    model, weights = load_policy(checkpoint, dtype=torch.float32, device=device), load_memory(checkpoint, device)
    return LocalPolicy(model, recalling=Recalling(model, weights, EVERYTHING, time.perf_counter))


def _play(
    folder: Path, wanted: WantedMistakes, policy: LocalPolicy, scale: ActionScale, watch: Callable[[int], None]
) -> None:
    writer, episode = FrameWriter(folder, wanted.origin), 0
    while len(writer) < wanted.scenes:
        env = JacoEnv("remember", image_px=wanted.image_px, variant=wanted.variant, delay=DELAYS[episode % len(DELAYS)])
        with closing(env):
            _episode(env, wanted, policy, scale, writer, episode)
        episode += 1
        watch(len(writer))
    writer.close()


def _episode(
    env: JacoEnv, wanted: WantedMistakes, policy: LocalPolicy, scale: ActionScale, writer: FrameWriter, episode: int
) -> None:
    observed, info = env.reset(seed=wanted.seed + episode)
    policy.reset()
    free, over = 0, False
    while not over and len(writer) < wanted.scenes:
        free += not info["frozen"]
        if free % wanted.every == 1:
            writer.append(observed["images"]["front"][None], labelled(env, scale, late=info["due"] == info["then"]))
        observed, _, terminated, truncated, info = env.step(policy(observed))
        over = terminated or truncated
