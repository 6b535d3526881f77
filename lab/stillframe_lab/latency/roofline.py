"""The machine's roofline: its best rates of multiplying and copying, and what a step would take at these rates.

Knows matrix products; no model. The best of several shapes counts.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from stillframe.engine.device import wait_for
from stillframe.stopwatch import Clock
from stillframe_lab.evaluation.macs import Work
from stillframe_lab.latency.stock import packed

# rows, inputs, outputs: prompts through feed-forwards, and a GPU's square ones
CPU_SHAPES = ((294, 1024, 2816), (294, 2816, 1024), (1024, 1024, 1024))
CUDA_SHAPES = ((294, 4096, 11008), (2048, 4096, 11008), (8192, 8192, 8192))
COPIED_BYTES = {"cpu": 2**28, "cuda": 2**31}
REPEATED = 5  # the best counts
Product = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class MachineRates:
    """The machine's best rates in one dtype."""

    flops_per_s: float
    bytes_per_s: float


@dataclass(frozen=True)
class RooflineTime:
    """The time of a step at the machine's best rates."""

    multiplying_ms: float  # of the compute-bound parts
    reading_ms: float  # of the memory-bound parts

    @property
    def total_ms(self) -> float:
        """Both together."""
        return self.multiplying_ms + self.reading_ms

    @property
    def bound(self) -> str:
        """What bounds most of it."""
        return "multiplying" if self.multiplying_ms >= self.reading_ms else "reading"


def roofline_time(work: Sequence[Work], rates: MachineRates) -> RooflineTime:
    """Each part takes what its multiply-adds (two operations each) or its bytes take, whichever is more."""
    multiplying_ms = reading_ms = 0.0
    for part in work:
        compute_ms = 2e3 * part.macs / rates.flops_per_s
        memory_ms = 1e3 * part.read_bytes / rates.bytes_per_s
        if compute_ms >= memory_ms:
            multiplying_ms += compute_ms
        else:
            reading_ms += memory_ms
    return RooflineTime(multiplying_ms, reading_ms)


def measure_roofline(dtypes: Sequence[torch.dtype], device: torch.device, clock: Clock) -> dict[str, Any]:
    """The machine's roofline, ready for JSON: by dtype and way to multiply the best rate, and that of copying."""
    copied = copy_rate(device, clock)
    shapes = CUDA_SHAPES if device.type == "cuda" else CPU_SHAPES
    multiplied = {_name(dtype): _products(dtype, device, shapes, clock) for dtype in dtypes}
    return {"copy_gb_per_s": copied / 1e9, "gemm": multiplied}


def rates_of(roofline: Mapping[str, Any], dtype: str) -> MachineRates:
    """Of one dtype, the better way to multiply."""
    best = max(way["gflop_per_s"] for way in roofline["gemm"][dtype].values())
    return MachineRates(best * 1e9, roofline["copy_gb_per_s"] * 1e9)


def copy_rate(device: torch.device, clock: Clock) -> float:
    """Bytes read and bytes written a second."""
    source = torch.ones(COPIED_BYTES[device.type], dtype=torch.uint8, device=device)
    target = torch.empty_like(source)
    took_s = _best_s(lambda: target.copy_(source), device, clock)
    return 2 * source.numel() / took_s


def _products(
    dtype: torch.dtype, device: torch.device, shapes: Sequence[tuple[int, int, int]], clock: Clock
) -> dict[str, Any]:
    """Kind of product -> its best shape and rate."""
    found: dict[str, dict[str, Any]] = {}
    for rows, inputs, outputs in shapes:
        given = torch.randn(rows, inputs, device=device, dtype=dtype)
        for way, product in _ways(inputs, outputs, dtype, device).items():
            rate = 2 * rows * inputs * outputs / _best_s(lambda do=product, rows=given: do(rows), device, clock) / 1e9  # type: ignore[misc] # mypy knows no defaults of a lambda
            if rate > found.get(way, {"gflop_per_s": 0.0})["gflop_per_s"]:
                found[way] = {"gflop_per_s": rate, "shape": [rows, inputs, outputs]}
    return found


def _ways(inputs: int, outputs: int, dtype: torch.dtype, device: torch.device) -> dict[str, Product]:
    """Torch's product, and the packed one if this layer would be packed."""
    linear = nn.Linear(inputs, outputs, bias=False, device=device, dtype=dtype).requires_grad_(requires_grad=False)
    ways: dict[str, Product] = {"torch": lambda rows: functional.linear(rows, linear.weight)}
    ours = packed(linear)
    return ways if ours is None else {**ways, "packed": ours}


@torch.inference_mode()
def _best_s(work: Callable[[], object], device: torch.device, clock: Clock) -> float:
    wait, took_s = wait_for(device), []
    for _ in range(1 + REPEATED):
        wait()
        began_s = clock()
        work()
        wait()
        took_s.append(clock() - began_s)
    return min(took_s[1:])


def _name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")
