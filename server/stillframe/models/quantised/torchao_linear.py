"""TorchaoLinear: a linear layer whose weight is one of torchao's quantised tensors.

Knows torchao, which is imported on use: it takes two seconds, and is an extra. Of its kernels only those are asked for
that torch has itself, so that torchao's own libraries need not fit the build of torch.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from torch import Tensor, nn
from torch.nn import functional

from stillframe.domain import WeightScheme
from stillframe.models.quantised.schemes import INT4_GROUP

LEAST_ROWS = 17  # of a product of bytes on a GPU; fewer are refused there, and torchao multiplies in float32 instead
TALKATIVE = ("torchao", "torch.utils._pytree")  # logs: libraries for another build, an enumeration's registration


class TorchaoLinear(nn.Module):
    """A linear layer on the device and in the dtype in which its rows come. The module that is given is used up."""

    def __init__(self, linear: nn.Linear, scheme: WeightScheme):
        super().__init__()
        with _quiet():
            from torchao.quantization import quantize_

            quantize_(linear.requires_grad_(requires_grad=False), _config(scheme))
        self.weight, self.bias = linear.weight, linear.bias
        self._least_rows = LEAST_ROWS if scheme == "int8" and linear.weight.device.type == "cuda" else 0

    def forward(self, rows: Tensor) -> Tensor:
        """[..., in] -> [..., out]."""
        flat = rows.flatten(0, -2)
        return self._product(flat).view(*rows.shape[:-1], -1)

    def _product(self, rows: Tensor) -> Tensor:
        """[rows, in] -> [rows, out]."""
        missing = self._least_rows - len(rows)
        padded = rows if missing <= 0 else functional.pad(rows, (0, 0, 0, missing))
        return functional.linear(padded, self.weight, self.bias)[: len(rows)]


def _config(scheme: WeightScheme) -> Any:
    """What torchao is asked for. Inductor's settings are left alone: nothing is compiled."""
    from torchao import quantization

    alone = {"set_inductor_config": False}
    if scheme == "int8":
        return quantization.Int8DynamicActivationInt8WeightConfig(**alone)
    if scheme == "int8-weight-only":
        return quantization.Int8WeightOnlyConfig(**alone)
    if scheme == "int4-weight-only":
        tiles = "tile_packed_to_4d"  # the packing whose kernel is torch's
        return quantization.Int4WeightOnlyConfig(group_size=INT4_GROUP, int4_packing_format=tiles, **alone)
    return quantization.Float8DynamicActivationFloat8WeightConfig(granularity=quantization.PerRow(), **alone)


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep back what importing torchao logs and what it does not concern us with."""
    logs = [logging.getLogger(name) for name in TALKATIVE]
    before = [log.level for log in logs]
    for log in logs:
        log.setLevel(logging.ERROR)
    try:
        yield
    finally:
        for log, level in zip(logs, before, strict=True):
            log.setLevel(level)
