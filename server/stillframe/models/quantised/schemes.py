"""The kinds of quantised weights: what each asks of a device, and what a number of them takes.

Knows devices and torch's build; no layer. On a CPU int8 goes through torch's own oneDNN; all else is torchao's.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from types import MappingProxyType

import torch

from stillframe.domain import WeightScheme

# Instructions that add four products of bytes in 32 bits. Without them a CPU adds two of them in 16, which overflows.
VNNI = ("avx512_vnni", "avx_vnni", "amx_int8")
INSTALL = "pip install 'stillframe[quantised]'"


@dataclass(frozen=True)
class Scheme:
    """What a kind of weights needs."""

    bytes_per_number: float  # with the scales of groups, without those of rows: these are one in thousands
    multiple: int  # of which a layer's inputs and outputs have to be one
    capability: tuple[int, int]  # of a GPU, at least
    gpu_only: bool = False
    bfloat16_only: bool = False


INT4_GROUP = 128  # inputs that share a scale and a zero point, two bytes each
SCHEMES: Mapping[WeightScheme, Scheme] = MappingProxyType(
    {
        "int8": Scheme(1.0, 8, (8, 0)),
        "int8-weight-only": Scheme(1.0, 1, (8, 0)),
        "int4-weight-only": Scheme(0.5 + 4 / INT4_GROUP, INT4_GROUP, (8, 0), gpu_only=True, bfloat16_only=True),
        "fp8": Scheme(1.0, 16, (8, 9), gpu_only=True, bfloat16_only=True),
    }
)


def refusal(name: WeightScheme, dtype: torch.dtype, device: torch.device) -> str | None:
    """Why weights of this kind cannot be had on `device` with rows in `dtype`; None: they can."""
    if name == "as-is":
        return None
    scheme = SCHEMES[name]
    if device.type == "cpu" and scheme.gpu_only:
        return f"{name} takes a GPU: on a CPU there is no product by such weights; use int8, or as-is"
    if device.type == "cpu" and name == "int8":
        return _cpu_refusal()
    if find_spec("torchao") is None:
        return f"{name} needs torchao, which is not installed here; run: {INSTALL}"
    if scheme.bfloat16_only and dtype != torch.bfloat16:
        return f"{name} multiplies rows in bfloat16 alone, and dtype is {str(dtype).removeprefix('torch.')}"
    return _gpu_refusal(name, scheme, device) if device.type == "cuda" else None


def _cpu_refusal() -> str | None:
    mkldnn = torch.backends.mkldnn.is_available()  # type: ignore[no-untyped-call] # torch gives it no types
    if not mkldnn or not hasattr(torch.ops.onednn, "qlinear_pointwise"):
        return "int8 on a CPU needs a build of torch with oneDNN, and this one has none; use int8-weight-only, or as-is"
    if not any(torch.cpu.get_capabilities().get(name) for name in VNNI):
        return "int8 needs a CPU with VNNI instructions, and this one has none; use int8-weight-only, or as-is"
    return None


def _gpu_refusal(name: WeightScheme, scheme: Scheme, device: torch.device) -> str | None:
    found = torch.cuda.get_device_capability(device)
    if found >= scheme.capability:
        return None
    least, here = (".".join(map(str, version)) for version in (scheme.capability, found))
    return f"{name} needs a GPU of compute capability {least}, and {device} is of {here}; use another kind, or as-is"
