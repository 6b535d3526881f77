"""Scenes that the policy itself reaches, labelled by the expert (DAgger).

Knows the simulator and a checkpoint with history weights. Sampled scenes never have the arm between two cubes.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from contextlib import ExitStack, closing
from dataclasses import asdict, dataclass
from pathlib import Path

from stillframe.engine.local import LocalPolicy
from stillframe.models.actions import ActionScale
from stillframe_client.sim import JacoEnv
from stillframe_lab.train.frame_store import FrameStore, FrameWriter
from stillframe_lab.train.history.dataset import Scenes
from stillframe_lab.train.history.episodes import full_history_policy
from stillframe_lab.train.history.scenes import LAMPS_VERSION, labelled, stored

DELAYS = (0, 8, 24)  # steps, in turn
FIRST_SEED = 800_000  # none that an evaluation plays


@dataclass(frozen=True)
class WantedMistakes:
    """Which scenes: every so many free steps of one variant's episodes."""

    variant: str
    scenes: int
    every: int
    image_px: int
    seed: int = FIRST_SEED

    @property
    def origin(self) -> str:
        """The origin written into a store of these scenes."""
        return json.dumps({"lamps": LAMPS_VERSION, **asdict(self)})


def mistakes_in(
    folder: Path, wanted: WantedMistakes, checkpoint: Path, scale: ActionScale, watch: Callable[[int], None]
) -> Scenes:
    """The scenes of `folder`, played by `checkpoint` if they are missing. ConfigError for a store of others."""
    if not FrameStore.exists(folder):
        _play(folder, wanted, full_history_policy(checkpoint, time.perf_counter), scale, watch)
    return stored(folder, wanted.origin, wanted.image_px, played=True)


def _play(
    folder: Path, wanted: WantedMistakes, policy: LocalPolicy, scale: ActionScale, watch: Callable[[int], None]
) -> None:
    writer, episode = FrameWriter(folder, wanted.origin), 0
    with ExitStack() as scenery:
        envs = [scenery.enter_context(closing(_scene(wanted, delay))) for delay in DELAYS]
        while len(writer) < wanted.scenes:
            _episode(envs[episode % len(envs)], wanted, policy, scale, writer, episode)
            episode += 1
            watch(len(writer))
    writer.close()


def _scene(wanted: WantedMistakes, delay: int) -> JacoEnv:
    return JacoEnv("remember", image_px=wanted.image_px, variant=wanted.variant, delay=delay)


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
