"""What a device says of its memory: a GPU at hand or not."""

from __future__ import annotations

import pytest
import torch

from stillframe.domain import GpuMemory
from stillframe.engine.device import gpu_memory


def test_a_cpu_has_no_memory_to_report() -> None:
    """There is no pool of its own, and the metrics leave it out."""
    assert gpu_memory(torch.device("cpu")) is None


def test_a_gpu_is_asked_for_its_own_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """The second of two, in torch's words: what tensors take, what the allocator holds, what the driver has left."""
    held = {0: (1, 2), 1: (300, 4000)}
    stats = {"allocated_bytes.all.peak": 7, "reserved_bytes.all.peak": 8}
    monkeypatch.setattr(
        torch.cuda,
        "memory_stats",
        lambda device: (
            stats
            | dict(zip(("allocated_bytes.all.current", "reserved_bytes.all.current"), held[device.index], strict=True))
        ),
    )
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (50_000 + device.index, 80_000))

    assert gpu_memory(torch.device("cuda:1")) == GpuMemory(allocated=300, reserved=4000, free=50_001, total=80_000)
