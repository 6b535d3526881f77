"""Recipes small enough to train in a test, and frames that are labelled with chunks.

Knows no simulator: the pictures are noise, the labels made up.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from stillframe_lab.train.auxiliary import KEYPOINTS
from stillframe_lab.train.chunked.labels import ChunkLabels
from stillframe_lab.train.chunked.recipe import JACO_TINY_COGACT, JACO_TINY_OFT, ChunkRecipe
from stillframe_lab.train.frame_store import FrameStore, FrameWriter

SIZES = {"tower_dim": 16, "tower_depth": 2, "tower_heads": 2, "width": 16, "layers": 2, "heads": 2, "feed_forward": 24}
HEAD = {"head_width": 16, "head_depth": 1, "head_heads": 2}
SHORT = {"steps": 6, "batch_images": 2, "warmup_steps": 2, "dagger_at": (), "demo_frames": 40, "dagger_frames": 20}


@pytest.fixture(scope="session")
def oft_recipe() -> ChunkRecipe:
    """Two cameras, three actions a chunk."""
    return replace(JACO_TINY_OFT, **SIZES, **HEAD, **SHORT, horizon=3, execute=2)


@pytest.fixture(scope="session")
def cogact_recipe() -> ChunkRecipe:
    """One camera, four actions a chunk."""
    return replace(JACO_TINY_COGACT, **SIZES, **HEAD, **SHORT, horizon=4, execute=2)


def made_up(rng: np.random.Generator, horizon: int) -> ChunkLabels:
    """Labels of one frame: a reach, a pick and another pick, each wanting something else."""
    gripper = rng.integers(0, 2, (1, 3, horizon, 1))
    return ChunkLabels(
        actions=np.zeros((1, 6, 7), np.float32),
        points_m=rng.uniform(-0.3, 0.3, (1, KEYPOINTS, 3)).astype(np.float32),
        points_px=rng.uniform(0, 224, (1, KEYPOINTS, 2)).astype(np.float32),
        finger_rad=rng.uniform(0.2, 1.2, 1).astype(np.float32),
        goals=np.array([[rng.integers(0, 3), rng.integers(3, 6), rng.integers(3, 6)]]),
        chunks=np.concatenate((rng.uniform(-1, 1, (1, 3, horizon, 6)), gripper), axis=-1).astype(np.float32),
        state=np.array([[*rng.uniform(0.2, 0.4, 3), 0, 0, 0, 0.5]]),
    )


@pytest.fixture(scope="session")
def chunk_demos(tmp_path_factory: pytest.TempPathFactory) -> Callable[[ChunkRecipe, int], FrameStore]:
    """A store of so many made-up frames for a recipe."""

    def write(recipe: ChunkRecipe, frames: int) -> FrameStore:
        rng = np.random.default_rng(frames)
        folder: Path = tmp_path_factory.mktemp("chunks")
        writer = FrameWriter(folder, "made up")
        for _ in range(frames):
            pictures = rng.integers(0, 256, (len(recipe.cameras), 224, 224, 3), dtype=np.uint8)
            writer.append(pictures, made_up(rng, recipe.horizon))
        writer.close()
        return FrameStore.open(folder, "made up", ChunkLabels)

    return write
