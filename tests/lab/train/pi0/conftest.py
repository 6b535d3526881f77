"""Recipes of a pi0 and a pi0.5 small enough to train in a test, and frames labelled with chunks.

Knows no simulator: the pictures are noise, the labels made up.
"""

from __future__ import annotations

from dataclasses import replace

import pytest

from stillframe_lab.train.pi0.recipe import JACO_TINY_PI0, JACO_TINY_PI05, Pi0Recipe
from stillframe_lab.train.recipe import JACO_TINY

START = replace(JACO_TINY, tower_dim=16, tower_depth=2, tower_heads=2, width=16, layers=2, heads=2, feed_forward=24)
SMALL = {
    "tower_dim": 72, "tower_depth": 1, "width": 16, "layers": 2, "heads": 2, "feed_forward": 24,
    "head_width": 16, "head_dim": 16,
    "expert_feed_forward": 24, "horizon": 3, "execute": 2, "repeats": 2, "steps": 6, "batch_images": 2,
    "warmup_steps": 2, "dagger_at": (), "demo_frames": 40, "dagger_frames": 20, "distil_steps": 2, "start": START,
}  # fmt: skip


@pytest.fixture(scope="session")
def pi0_recipe() -> Pi0Recipe:
    """One camera, three actions a chunk; two steps of the tower alone, where there is a start."""
    return replace(JACO_TINY_PI0, **SMALL)


@pytest.fixture(scope="session")
def pi05_recipe() -> Pi0Recipe:
    """The same with the state in the prompt and norms that time steers."""
    return replace(JACO_TINY_PI05, **{**SMALL, "distil_steps": 0})
