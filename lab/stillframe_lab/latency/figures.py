"""The figures of a race: one row for each variant, ready for JSON; medians, and ratios of medians of the same run.

Knows times and work; measures nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import fmean, median
from typing import Any

from stillframe_lab.evaluation.trace import percentiles
from stillframe_lab.latency.race import VariantTimes
from stillframe_lab.latency.roofline import MachineRates, RooflineTime, roofline_time
from stillframe_lab.latency.stock import BASELINES

Figures = dict[str, Any]

STAGES = ("decode image", "prepare", "vision", "plan", "prefill", "verify", "keep")


def rows_of(model: str, raced: Sequence[VariantTimes], rates: Mapping[str, MachineRates]) -> list[Figures]:
    """Each variant's row, compared with the stock variants of its dtype; `rates` by dtype."""
    return [
        row
        for dtype in rates
        for row in _compared([_row(model, one, rates[dtype]) for one in raced if one.entry.dtype == dtype])
    ]


def _row(model: str, timed: VariantTimes, rates: MachineRates) -> Figures:
    """Times are of a call; `frame_ms` is the share of one robot's frame."""
    entry, times = timed.entry, percentiles(timed.total_ms)
    p50_ms = median(timed.total_ms)
    best = _needed(timed, rates)
    return {
        "name": entry.name,
        "model": model,
        "dtype": entry.dtype,
        "scene": entry.motion,
        "forced": entry.forced,
        "robots": entry.robots,
        "batch_of": entry.batch_of or None,
        "reuse_ratio": fmean(answer.reuse_ratio for answer in timed.answers),
        "passes_per_action": fmean(answer.passes for answer in timed.answers),
        "accepted_per_action": fmean(answer.accepted for answer in timed.answers),
        "timed": len(timed.total_ms),
        "p50_ms": p50_ms,
        "p99_ms": times["p99"],
        "worst_ms": max(timed.total_ms),
        "frame_ms": p50_ms / entry.robots,
        "frames_per_s": 1e3 * entry.robots / p50_ms,
        "stages_ms": {**_stages(timed), "total": p50_ms},
        "gflop": 2e-9 * fmean(sum(part.macs for part in answer.work) for answer in timed.answers),
        "gbyte": 1e-9 * fmean(sum(part.read_bytes for part in answer.work) for answer in timed.answers),
        "roofline": {"ms": best.total_ms, "bound": best.bound, "times": p50_ms / best.total_ms},
    }


def _needed(timed: VariantTimes, rates: MachineRates) -> RooflineTime:
    """Mean over the frames: passes differ."""
    every = [roofline_time(answer.work, rates) for answer in timed.answers]
    return RooflineTime(fmean(one.multiplying_ms for one in every), fmean(one.reading_ms for one in every))


def _stages(timed: VariantTimes) -> dict[str, float]:
    return {stage: median(answer.stages_ms[stage] for answer in timed.answers) for stage in timed.answers[0].stages_ms}


def _compared(rows: Sequence[Figures]) -> list[Figures]:
    """Add speedups over each stock variant, and of a batch over the same frames in turn."""
    frame_ms = {row["name"]: row["frame_ms"] for row in rows}
    for row in rows:
        for name in BASELINES:
            row[f"speedup_vs_{_key(name)}"] = frame_ms[name] / row["frame_ms"] if name in frame_ms else None
        alone_ms = frame_ms.get(row["batch_of"] or "")
        row["speedup_vs_in_turn"] = alone_ms / row["frame_ms"] if alone_ms else None
    return [*rows]


def _key(name: str) -> str:
    return name.replace(", ", "_").replace(" ", "_")


def named(row: Mapping[str, Any]) -> str:
    """A row's name, marked if forced."""
    return f"{row['name']}{' (forced)' if row['forced'] else ''}"
