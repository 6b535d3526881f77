"""A slow copy of a network's weights: the average that drives better than any single step."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class SlowCopy:
    """Exponential moving average of a module's parameters."""

    def __init__(self, module: nn.Module, decay: float):
        self.weights: dict[str, Tensor] = {
            name: tensor.detach().clone() for name, tensor in module.state_dict().items()
        }
        self._decay = decay

    @torch.no_grad()
    def follow(self, module: nn.Module, step: int) -> None:
        """Move a little towards the module; early steps move more."""
        decay = min(self._decay, (1 + step) / (10 + step))
        for name, tensor in module.state_dict().items():
            self.weights[name].lerp_(tensor.detach(), 1 - decay)
