"""Passes over few rows sum their products by halves: how a decoder rounds that is not batch invariant, on any machine.

Knows a decoder's linear layers; not what is decoded.

Kernels that split a product's sum (split-K, on GPUs; blocks of another depth, on CPUs) add the parts up in float32 and
round once, or round each part first: "reduced precision reduction", which torch allows on GPUs unless told not to.
"""

from __future__ import annotations

from torch import Tensor, nn

from stillframe.models.llama.decoder import Decoder
from stillframe.models.llama.weight_packing import PackedLinear


class HalvedSum(nn.Module):
    """A linear layer without bias; a product of at most `most_rows` rows is summed up in two halves."""

    def __init__(self, linear: nn.Linear | PackedLinear, most_rows: int, *, rounded: bool):
        """`rounded`: each half to the dtype of the rows, before they are added."""
        super().__init__()
        self.linear, self.weight, self._most_rows, self._rounded = linear, linear.weight, most_rows, rounded
        dense = linear.weight.to_dense() if isinstance(linear, PackedLinear) else linear.weight
        self._halves = dense.float().t().tensor_split(2)  # [in / 2, out] each

    def forward(self, rows: Tensor) -> Tensor:
        """[..., in] -> [..., out]."""
        if rows.shape[:-1].numel() > self._most_rows:
            whole: Tensor = self.linear(rows)
            return whole
        parts = rows.float().tensor_split([len(self._halves[0])], dim=-1)
        first, second = (part @ half for part, half in zip(parts, self._halves, strict=True))
        return first.to(rows.dtype) + second.to(rows.dtype) if self._rounded else (first + second).to(rows.dtype)


def halve_sums(decoder: Decoder, most_rows: int, *, rounded: bool) -> None:
    """Have every product of few rows in the decoder summed up by halves, for good."""
    for module in [*decoder.modules()]:
        for name, child in [*module.named_children()]:
            if isinstance(child, nn.Linear | PackedLinear) and not isinstance(module, HalvedSum):
                setattr(module, name, HalvedSum(child, most_rows, rounded=rounded))
    decoder.batch_invariant = False
