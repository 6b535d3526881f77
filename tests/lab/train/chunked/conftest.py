"""Recipes of chunked policies small enough to train in a test."""

from __future__ import annotations

from dataclasses import replace

import pytest

from stillframe_lab.train.chunked.recipe import JACO_TINY_COGACT, JACO_TINY_OFT, ChunkRecipe

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
