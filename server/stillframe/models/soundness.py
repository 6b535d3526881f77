"""Whether weights can come from training: finite, and not the zeros of a download that stopped.

Knows numbers and a tensor's name; no network and no file. One pass over a tensor, as fast as memory.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

MAY_BE_ZERO = (".bias", "_token")  # ends of names of what training may leave at zero, or start from
TAIL = 64  # last numbers of a file, which a download that stopped leaves at zero
STOPPED = "room was probably made for a download that stopped; compare the file's hash and fetch it again"


def unsound(name: str, tensor: Tensor, *, last: bool = False) -> str | None:
    """What is wrong with a tensor's numbers, for an error message; None: nothing. `last`: it ends its file."""
    if tensor.numel() == 0:
        return f"tensor {name} holds no numbers; expected weights"
    low, high = (float(value) for value in torch.aminmax(tensor))
    if not (math.isfinite(low) and math.isfinite(high)):
        where, value = _first_not_finite(tensor)
        return f"tensor {name} holds {value} at {where}; weights have to be finite; fetch the file again"
    if name.endswith(MAY_BE_ZERO):
        return None
    if low == high == 0:
        return f"tensor {name} holds zeros only; {STOPPED}"
    if last and not bool(tensor.flatten()[-min(TAIL, tensor.numel()) :].any()):
        return f"tensor {name}, the last of its file, ends in zeros; {STOPPED}"
    return None


def zero_rows(name: str, rows: Tensor, first: int) -> str | None:
    """What is wrong with rows [rows, width], none of which may be zero; `first` is the index of the first."""
    low, high = torch.aminmax(rows, dim=1)
    empty = ((low == 0) & (high == 0)).nonzero().flatten().tolist()
    if not empty:
        return None
    return f"tensor {name} holds zeros only in row {first + empty[0]} and {len(empty) - 1} more; {STOPPED}"


def _first_not_finite(tensor: Tensor) -> tuple[tuple[int, ...], str]:
    place = tuple((~torch.isfinite(tensor)).nonzero()[0].tolist())
    return place, str(float(tensor[place]))
