"""Packs and fuses the weights of a network for inference, in place: the same results from fewer and faster products.

Knows linear layers, and the names of those that share their input; no family. A packed network cannot be trained.

On a CPU, oneDNN multiplies fastest by weights that lie in an order of its own. Microseconds for 6 / 24 / 294 rows, as
torch multiplies by itself -> packed (one thread of an EPYC 9004, torch 2.13):

    float32       128 x 128       5 / 11 / 99       ->  16 / 19 / 100      a call costs 14, MKL's 3
                  128 x 672      23 / 51 / 501      ->  24 / 52 / 463
                  512 x 512      71 / 153 / 1507    ->  47 / 129 / 1361
                 1024 x 1024    366 / 692 / 6208    ->  135 / 461 / 5536
                 2816 x 1024    834 / 1934 / 17518  ->  333 / 1258 / 15327
    bfloat16      128 x 128      17 / 17 / 59       ->  14 / 17 / 57       torch packs in every call
                 1024 x 1024    132 / 300 / 2830    ->  80 / 244 / 2718
                 2816 x 1024    308 / 762 / 7745    ->  180 / 636 / 7494

In bfloat16 the numbers stay the same to the bit; in float32 sums are taken in another order. The first time that so
many rows come, oneDNN writes itself a kernel: 0.5 to 1 ms for each shape of weight.

Two products with one input are fused. That saves a launch on a GPU, 10 microseconds where a call is oneDNN's, and is as
fast with MKL. And it makes what follows gate and up batch invariant (batch_invariance.py): over halves of fused rows
torch's silu goes row by row. Over contiguous rows it goes in one go, and takes the last few numbers by another exp: of
336 wide float32 rows the last one's then depended on how many there were.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

# Elements from which a weight is worth packing. Other dtypes are never packed.
LEAST_PACKED = {torch.float32: 2**18, torch.bfloat16: 0}

FUSED = {"kv_proj": ("k_proj", "v_proj"), "gate_up_proj": ("gate_proj", "up_proj")}


class PackedLinear(nn.Module):
    """A linear layer on a CPU whose weight is held in oneDNN's order, and in no other.

    Of `weight` there are shape, dtype and device; its numbers cannot be read.
    """

    def __init__(self, linear: nn.Linear):
        super().__init__()
        packed = torch.ops.mkldnn._reorder_linear_weight(linear.weight.detach(), None)
        self.weight = nn.Parameter(packed, requires_grad=False)
        self.bias = None if linear.bias is None else nn.Parameter(linear.bias.detach(), requires_grad=False)

    def forward(self, rows: Tensor) -> Tensor:
        """[..., in] -> [..., out]."""
        if rows.requires_grad and torch.is_grad_enabled():
            differentiable: Tensor = _PackedProduct.apply(rows, self.weight, self.bias)  # type: ignore[no-untyped-call]
            return differentiable
        return _product(rows, self.weight, self.bias)


def _product(rows: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    out: Tensor = torch.ops.mkldnn._linear_pointwise(rows, weight, bias, "none", [], "")
    return out


class _PackedProduct(torch.autograd.Function):
    """The same product with a gradient for its rows, which torch's packed one has not."""

    @staticmethod
    def forward(context: Any, rows: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        context.weight = weight
        return _product(rows, weight, bias)

    @staticmethod
    def backward(context: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        return gradient @ context.weight.to_dense(), None, None


def pack_for_inference(network: nn.Module) -> None:
    """Fuse what shares its input, then pack what is worth it. One weight at a time: memory never holds two networks."""
    for module in [*network.modules()]:
        for name, parts in FUSED.items():
            fuse(module, name, *parts)
    for module in [*network.modules()]:
        for name, child in [*module.named_children()]:
            if isinstance(child, nn.Linear) and worth_packing(child.weight):
                setattr(module, name, PackedLinear(child))


def worth_packing(weight: Tensor) -> bool:
    """Whether it is on a CPU that can pack it, and gains by it."""
    least = LEAST_PACKED.get(weight.dtype)
    return weight.device.type == "cpu" and least is not None and weight.numel() >= least and _can_pack(weight.dtype)


def _can_pack(dtype: torch.dtype) -> bool:
    """Whether this build of torch has oneDNN, and this CPU instructions for the dtype."""
    ops = torch.ops.mkldnn
    there = torch.backends.mkldnn.is_available()  # type: ignore[no-untyped-call] # torch gives it no types
    if not there or not hasattr(ops, "_linear_pointwise"):
        return False
    return dtype != torch.bfloat16 or bool(ops._is_mkldnn_bf16_supported())


def fuse(module: nn.Module, name: str, *parts: str) -> None:
    """Linear layers become one, whose output is that of the first and then that of the next ones; all, or none."""
    linears = [getattr(module, part, None) for part in parts]
    own = [each for each in linears if isinstance(each, nn.Linear)]
    if len(own) < len(parts):
        return
    fused = nn.Linear(own[0].in_features, sum(each.out_features for each in own), bias=False, device="meta")
    weights: list[Tensor] = [each.weight for each in own]
    biases: list[Tensor] = [each.bias for each in own if each.bias is not None]
    fused.weight = nn.Parameter(torch.cat(weights), requires_grad=False)
    if biases:
        fused.bias = nn.Parameter(torch.cat(biases), requires_grad=False)
    for part in parts:
        delattr(module, part)
    setattr(module, name, fused)
