"""A pi0 of random weights, wide enough that its time is spent as a big one's is. For timing only.

Knows sizes; no data.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import torch

from stillframe_lab.train.pi0.files import save_openpi
from stillframe_lab.train.pi0.recipe import JACO_TINY_PI0, Pi0Recipe
from stillframe_lab.train.pi0.start import new_network

SEED = 11
# As in PaliGemma the expert is half as wide as the prefix's decoder, and the tower a tenth of the whole.
UNTRAINED_PI0 = replace(
    JACO_TINY_PI0,
    tower_dim=288,
    tower_depth=10,
    width=1024,
    layers=8,
    heads=8,
    feed_forward=4096,
    head_width=512,
    expert_feed_forward=2048,
)


def save_untrained_pi0(folder: Path, recipe: Pi0Recipe = UNTRAINED_PI0) -> None:
    """Write a checkpoint in openpi's layout."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(SEED)
        save_openpi(folder, new_network(recipe).state_dict(), recipe)
