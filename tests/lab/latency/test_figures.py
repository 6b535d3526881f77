from __future__ import annotations

import numpy as np
import pytest
import torch

from stillframe_lab.evaluation.macs import Work
from stillframe_lab.latency import roofline
from stillframe_lab.latency.figures import rows_of
from stillframe_lab.latency.race import StepResult, VariantInfo, VariantTimes
from stillframe_lab.latency.roofline import MachineRates, measure_roofline, rates_of, roofline_time
from stillframe_lab.latency.stock import ONE_HEAD_ROW, STOCK

RATES = MachineRates(flops_per_s=2e9, bytes_per_s=1e9)  # a thousand multiply-adds or bytes: a microsecond


def timed(entry: VariantInfo, total_ms: list[float], passes: float = 7) -> VariantTimes:
    """A variant's race: each frame a million multiply-adds, 1 ms."""
    answer = StepResult(
        {"vision": 1.0, "prefill": 2.0}, passes, 0, 0.25, (np.zeros(7, np.int64),), (Work(10**6, 10**3),)
    )
    return VariantTimes(entry, total_ms, [answer] * len(total_ms))


def test_what_a_step_needs_by_hand() -> None:
    """Each part takes its multiplying or its reading, whichever is longer; two operations to a multiply-add."""
    best = roofline_time([Work(3_000_000, 1_000_000), Work(1_000_000, 2_000_000)], RATES)

    assert (best.multiplying_ms, best.reading_ms) == (3.0, 2.0)
    assert (best.total_ms, best.bound) == (5.0, "multiplying")


def test_the_better_way_to_multiply_is_the_roof() -> None:
    """Whoever's it is."""
    ways = {"torch": {"gflop_per_s": 3.0}, "packed": {"gflop_per_s": 4.0}}

    assert rates_of({"copy_gb_per_s": 2.0, "gemm": {"float32": ways}}, "float32") == MachineRates(4e9, 2e9)


def test_the_roof_is_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    """By a clock that says that everything takes a second."""
    ticks = iter(range(10_000))
    monkeypatch.setattr(roofline, "CPU_SHAPES", ((2, 3, 5), (4, 3, 5)))
    monkeypatch.setattr(roofline, "COPIED_BYTES", {"cpu": 1000})
    found = measure_roofline([torch.float32], torch.device("cpu"), lambda: float(next(ticks)))

    assert found["copy_gb_per_s"] == pytest.approx(2000 / 1e9)
    assert found["gemm"] == {
        "float32": {"torch": {"gflop_per_s": pytest.approx(2 * 4 * 3 * 5 / 1e9), "shape": [4, 3, 5]}}
    }


def test_rows_are_compared_with_the_stock_ways_of_their_dtype() -> None:
    """Medians of the same run; a batch by what is due to a frame, and with the row that answers one at a time."""
    raced = [
        timed(VariantInfo(STOCK, "float32"), [90.0, 80.0, 100.0]),
        timed(VariantInfo(STOCK, "bfloat16"), [10.0]),
        timed(VariantInfo(ONE_HEAD_ROW, "float32"), [60.0]),
        timed(VariantInfo("off", "float32"), [45.0]),
        timed(VariantInfo("off, batch 4", "float32", robots=4, batch_of="off"), [120.0]),
    ]
    rows = {(row["dtype"], row["name"]): row for row in rows_of("m", raced, {"float32": RATES, "bfloat16": RATES})}
    off, batch = rows["float32", "off"], rows["float32", "off, batch 4"]

    assert rows["float32", STOCK]["p50_ms"] == 90.0
    assert (off["speedup_vs_stock"], off["speedup_vs_stock_one_head_row"]) == (2.0, pytest.approx(4 / 3))
    assert off["speedup_vs_stock_our_products"] is off["speedup_vs_in_turn"] is None
    assert (batch["frame_ms"], batch["frames_per_s"]) == (30.0, pytest.approx(1000 / 30))
    assert (batch["speedup_vs_stock"], batch["speedup_vs_in_turn"]) == (3.0, 1.5)
    assert rows["bfloat16", STOCK]["speedup_vs_stock"] == 1.0


def test_a_row_says_what_was_asked_for() -> None:
    """Stages with their total, work, and how many times the roofline its median is."""
    (row,) = rows_of("m", [timed(VariantInfo(STOCK, "float32"), [5.0, 3.0])], {"float32": RATES})

    assert row["stages_ms"] == {"vision": 1.0, "prefill": 2.0, "total": 4.0}
    assert (row["gflop"], row["gbyte"]) == (pytest.approx(2e-3), pytest.approx(1e-6))
    assert row["roofline"] == {"ms": 1.0, "bound": "multiplying", "times": 4.0}
    assert (row["reuse_ratio"], row["passes_per_action"]) == (0.25, 7)
