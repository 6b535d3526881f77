"""Int8Linear: a linear layer on a CPU whose weights are whole numbers of eight bits, as its rows are while it computes.

Knows numbers; not which layers are worth it. Each output has a scale, from its longest weight; each row has one of its
own, from its longest number in that pass. Where that is 0, whatever whole numbers come of it are multiplied by 0. The
sums are of whole numbers and so exact: a row's result does not depend on which rows share its pass, nor on the order in
which a CPU adds.

The operator is oneDNN's, which torch has for its own quantised graphs: bytes without a sign, 128 above the number, are
what CPUs multiply by bytes with a sign; rows with a sign take its reference, which is hundreds of times slower.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

LARGEST = 127  # of a number in eight bits
ZERO = 128  # where a row's 0 lies in a byte without a sign


class Int8Linear(nn.Module):
    """A linear layer in oneDNN's order of weights. Of `weight` there are shape, transposed, and bytes, no numbers."""

    scale: Tensor
    zero: Tensor

    def __init__(self, linear: nn.Linear):
        super().__init__()
        weight = linear.weight.detach().float()
        scale = weight.abs().amax(dim=1) / LARGEST
        whole = (weight / scale[:, None]).round_().to(torch.int8)
        packed = torch.ops.onednn.qlinear_prepack(whole, None)
        self.weight = nn.Parameter(packed, requires_grad=False)
        self.bias = None if linear.bias is None else nn.Parameter(linear.bias.detach().float(), requires_grad=False)
        self.register_buffer("scale", scale)
        self.register_buffer("zero", torch.zeros(1, dtype=torch.int64))

    def forward(self, rows: Tensor) -> Tensor:
        """[..., in] -> [..., out], in the rows' dtype. A row that is not finite stays so."""
        step = torch.linalg.vector_norm(rows, torch.inf, dim=-1, keepdim=True, dtype=torch.float32) / LARGEST
        whole = (rows / step).add_(ZERO + 0.5).to(torch.uint8)  # cut off, which rounds
        out: Tensor = torch.ops.onednn.qlinear_pointwise(
            whole, 1.0, ZERO, self.weight, self.scale, self.zero, None, 1.0, 0, torch.float32, "none", [], ""
        )
        out = out.mul_(step)
        return (out if self.bias is None else out.add_(self.bias)).to(rows.dtype)
