"""A recipe small enough to train in a test, and labelled frames to train it on.

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
from stillframe_lab.train.chunked.recipe import ChunkRecipe
from stillframe_lab.train.frame_store import FrameStore, FrameWriter, Labels
from stillframe_lab.train.recipe import Recipe


@pytest.fixture(scope="session")
def recipe() -> Recipe:
    """Six steps of two pictures, on a network of a few thousand numbers."""
    sizes = {"tower_dim": 16, "tower_depth": 2, "tower_heads": 2, "width": 16, "layers": 2, "heads": 2}
    return replace(Recipe(), **sizes, feed_forward=24, steps=6, batch_images=2, warmup_steps=2, dagger_at=())


def made_up(rng: np.random.Generator) -> Labels:
    """Labels of one frame: every instruction wants something else."""
    gripper = rng.integers(0, 2, (1, 6, 1))
    return Labels(
        actions=np.concatenate((rng.uniform(-1, 1, (1, 6, 6)), gripper), axis=-1).astype(np.float32),
        points_m=rng.uniform(-0.3, 0.3, (1, KEYPOINTS, 3)).astype(np.float32),
        points_px=rng.uniform(0, 224, (1, KEYPOINTS, 2)).astype(np.float32),
        finger_rad=rng.uniform(0.2, 1.2, 1).astype(np.float32),
    )


@pytest.fixture(scope="session")
def fill() -> Callable[..., FrameStore]:
    """Write a store of so many made-up frames, each of so many pictures, into a folder."""

    def write(folder: Path, frames: int, seed: int, origin: str = "made up", cameras: int = 1) -> FrameStore:
        rng = np.random.default_rng(seed)
        writer = FrameWriter(folder, origin)
        for _ in range(frames):
            writer.append(rng.integers(0, 256, (cameras, 224, 224, 3), dtype=np.uint8), made_up(rng))
        writer.close()
        return FrameStore.open(folder, origin)

    return write


@pytest.fixture(scope="session")
def demos(tmp_path_factory: pytest.TempPathFactory, fill: Callable[..., FrameStore]) -> list[FrameStore]:
    """Two stores of three and five frames."""
    folder = tmp_path_factory.mktemp("demos")
    return [fill(folder / "a", 3, seed=1), fill(folder / "b", 5, seed=2)]


def made_up_chunks(rng: np.random.Generator, horizon: int) -> ChunkLabels:
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
            writer.append(pictures, made_up_chunks(rng, recipe.horizon))
        writer.close()
        return FrameStore.open(folder, "made up", ChunkLabels)

    return write
