"""A recipe small enough to train in a test, and scenes of noise to train it on. Knows no simulator and no test."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from stillframe_lab.train.auxiliary import KEYPOINTS
from stillframe_lab.train.history.dataset import SceneDataset, Scenes
from stillframe_lab.train.history.recipe import SMALL, JointRecipe, MemoryRecipe
from stillframe_lab.train.history.sampling import NOTHING

PX, SCENES = 28, 60


@pytest.fixture(scope="session")
def memory_recipe() -> MemoryRecipe:
    """Six steps of six pictures of four patches, on a network of a few thousand numbers."""
    sizes = {"tower_dim": 16, "tower_depth": 2, "tower_heads": 2, "width": 16, "layers": 2, "heads": 2}
    policy = replace(SMALL, **sizes, image_px=PX, feed_forward=24, steps=6, batch_images=6, warmup_steps=2)
    return MemoryRecipe(
        policy, ordered_share=0.5, asked_after=(1,), taps=(0, 1), hidden=8, gate_steps=60, gate_batch=8, truncate=5
    )


@pytest.fixture(scope="session")
def joint_recipe(memory_recipe: MemoryRecipe) -> JointRecipe:
    """Two steps; three chunks fit, of which one is a window."""
    return JointRecipe(memory_recipe, steps=2, warmup_steps=2, budgets=(3,))


@pytest.fixture(scope="session")
def scenes() -> Scenes:
    """Noise; every colour, marked and not, and none."""
    rng = np.random.default_rng(3)
    shown = np.arange(SCENES) % (NOTHING + 1)
    return Scenes(
        images=rng.integers(0, 256, (SCENES, PX, PX, 3), dtype=np.uint8),
        actions=rng.uniform(-1, 1, (SCENES, 3, 7)).astype(np.float32),
        points_m=rng.uniform(-0.3, 0.3, (SCENES, KEYPOINTS, 3)).astype(np.float32),
        points_px=rng.uniform(0, PX, (SCENES, KEYPOINTS, 2)).astype(np.float32),
        finger_rad=rng.uniform(0.2, 1.2, SCENES).astype(np.float32),
        shown=shown,
        marked=(np.arange(SCENES) % 3 > 0) & (shown != NOTHING),
        late=(np.arange(SCENES) % 8 == 3),
        played=np.zeros(SCENES, np.bool_),
    )


@pytest.fixture
def scenery(scenes: Scenes, memory_recipe: MemoryRecipe) -> SceneDataset:
    """Batches of them."""
    return SceneDataset(scenes, memory_recipe)
