"""Passes over few rows sum their products by halves: how a decoder rounds that is not batch invariant, on any machine.

Knows a decoder's linear layers; not what is decoded.

Kernels that split a product's sum (split-K, on GPUs; blocks of another depth, on CPUs) add up the parts in float32 and
round once. So do these: what differs from the machine's own product is the order of the sum.
"""

from __future__ import annotations

from torch import Tensor, nn

from stillframe.models.llama.decoder import Decoder
from stillframe.models.llama.weight_packing import PackedLinear


class HalvedSum(nn.Module):
    """A linear layer without bias; a product of at most `most_rows` rows is summed up in two halves."""

    def __init__(self, linear: nn.Linear | PackedLinear, most_rows: int):
        super().__init__()
        self.linear, self.weight, self._most_rows = linear, linear.weight, most_rows
        dense = linear.weight.to_dense() if isinstance(linear, PackedLinear) else linear.weight
        self._halves = dense.float().t().tensor_split(2)  # [in / 2, out] each

    def forward(self, rows: Tensor) -> Tensor:
        """[..., in] -> [..., out]."""
        if rows.shape[:-1].numel() > self._most_rows:
            whole: Tensor = self.linear(rows)
            return whole
        first, second = rows.float().tensor_split([len(self._halves[0])], dim=-1)
        return (first @ self._halves[0] + second @ self._halves[1]).to(rows.dtype)


def halve_sums(decoder: Decoder, most_rows: int) -> None:
    """Have every product of few rows in the decoder summed up by halves, for good."""
    for module in [*decoder.modules()]:
        for name, child in [*module.named_children()]:
            if isinstance(child, nn.Linear | PackedLinear) and not isinstance(module, HalvedSum):
                setattr(module, name, HalvedSum(child, most_rows))
    decoder.batch_invariant = False
