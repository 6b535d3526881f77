from __future__ import annotations

import torch
from torch import nn

from stillframe_lab.train.trainer import EMA


def test_early_steps_move_more_and_late_ones_by_the_decay() -> None:
    """Step 0 moves nine tenths of the way; far on, one thousandth at a decay of 0.999."""
    module = nn.Linear(1, 1, bias=False)
    nn.init.zeros_(module.weight)
    ema = EMA(module, 0.999)
    nn.init.ones_(module.weight)
    ema.update(module, 0)
    early = ema.weights["weight"].item()
    ema.weights["weight"].zero_()
    ema.update(module, 100_000)

    torch.testing.assert_close(early, 0.9)
    torch.testing.assert_close(ema.weights["weight"].item(), 0.001, rtol=1e-4, atol=0)


def test_the_copy_is_a_copy() -> None:
    """Training the module moves nothing until the copy follows."""
    module = nn.Linear(2, 2)
    ema = EMA(module, 0.5)
    before = module.weight.detach().clone()
    with torch.no_grad():
        module.weight.add_(1)

    assert torch.equal(ema.weights["weight"], before)
