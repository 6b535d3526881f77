"""Whether weights can be what was trained: a file that was cut short, or filled up with zeros, loads as well.

Knows tensors by name; no family, no file. One look at every number, at the speed at which memory is read.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from stillframe.errors import CheckpointError

REMEDY = "its file is damaged or its download was not complete: fetch it again, and compare its size and checksum"


def check_sound(network: nn.Module, where: object, *, says: Tensor | None = None, actions: range | None = None) -> None:
    """Raise CheckpointError for a tensor that holds NaN or infinity, or for a weight that is zero throughout.

    `where` names the checkpoint. Of `says`, the head's weight [vocabulary, width], no row of `actions` may be zero:
    each would be as likely as any other, whatever is seen.
    """
    for name, tensor in network.named_parameters():
        fault = _fault(name, tensor.detach())
        if fault is not None:
            raise CheckpointError(f"{where}: tensor {name} {fault}; {REMEDY}")
    if says is None or actions is None:
        return
    empty = (~says.detach()[actions.start : actions.stop].any(dim=-1)).sum().item()
    if empty:
        raise CheckpointError(f"{where}: {empty} of {len(actions)} actions have a row of zeros in the head; {REMEDY}")


def _fault(name: str, tensor: Tensor) -> str | None:
    """What is wrong with it. Biases may be zero throughout."""
    if not tensor.numel() or tensor.is_meta:
        return None
    low, high = torch.stack(tensor.aminmax()).tolist()
    if not (math.isfinite(low) and math.isfinite(high)):
        return "holds NaN or infinity"
    return "holds nothing but zeros" if low == high == 0 and name.endswith(".weight") else None
