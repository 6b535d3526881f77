"""A checkpoint of random weights, bigger than what we train: to time what reuse saves where multiplying takes longer.

Knows sizes; no data. Its actions mean nothing.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import torch

from stillframe.train.fresh import fresh_network, save_checkpoint
from stillframe.train.recipe import JACO_TINY, Recipe

SEED = 11
# 202 M in the decoder's layers; towers and projector are a tenth of the whole, as in OpenVLA.
UNTRAINED = replace(
    JACO_TINY, tower_dim=256, tower_depth=10, tower_heads=4, width=1024, layers=16, heads=16, feed_forward=2752
)


def save_untrained(folder: Path, recipe: Recipe = UNTRAINED) -> None:
    """Write a checkpoint of the recipe's sizes: the same weights each time."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(SEED)
        network = fresh_network(recipe)
    save_checkpoint(folder, network.state_dict(), recipe)
