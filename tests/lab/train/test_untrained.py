from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from stillframe.engine.local import LocalPolicy
from stillframe.models.registry import load_policy
from stillframe_lab.train.new_checkpoint import UNTRAINED, save_untrained

SMALL = replace(UNTRAINED, tower_dim=16, tower_depth=2, tower_heads=1, width=32, layers=2, heads=2, feed_forward=48)


def test_random_weights_are_a_checkpoint_like_any_other(tmp_path: Path) -> None:
    """It loads and answers; it is the same each time; and nobody else's random numbers change."""
    torch.manual_seed(1)
    expected = torch.rand(1)
    torch.manual_seed(1)
    for name in ("a", "b"):
        save_untrained(tmp_path / name, SMALL)
    assert torch.equal(torch.rand(1), expected)

    picture = np.random.default_rng(0).integers(0, 256, (224, 224, 3), np.uint8)
    observed = {"images": {"front": picture}, "instruction": "reach the red cube"}
    device = torch.device("cpu")
    models = [load_policy(tmp_path / name, dtype=torch.float32, device=device) for name in ("a", "b")]
    actions = [LocalPolicy(model)(observed) for model in models]

    assert actions[0].shape == (7,)
    assert np.array_equal(actions[0], actions[1])
    assert models[0].decoder.config.hidden_size == 32


def test_it_is_as_big_as_it_says() -> None:
    """A decoder of 1024 wide and 16 layers: what the figures are quoted for."""
    assert (UNTRAINED.width, UNTRAINED.layers, UNTRAINED.heads, UNTRAINED.feed_forward) == (1024, 16, 16, 2752)
    assert UNTRAINED.cameras == ("front",)
