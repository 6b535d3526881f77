"""The history report: results.json with every figure, README.md made of it, charts.

Knows results; plays nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from stillframe.tools.machine import machine
from stillframe_lab.evaluation.page import write_json
from stillframe_lab.history.arms import WINDOW_FRAMES
from stillframe_lab.history.charts import cost_chart, long_chart, success_chart
from stillframe_lab.history.plan import BUDGET, LONG, NOISE_SIGMA, HistoryCell, HistoryPlan
from stillframe_lab.history.readme import page
from stillframe_lab.history.targets import comparisons, targets
from stillframe_lab.history.utility_chart import utility_chart

Result = Mapping[str, Any]
UNSEEN = (
    "drifts",
    "outcomes",
    "keyframes",
    "reuse_ratio",
    "failed_seeds",
)  # not published


@dataclass(frozen=True)
class CellResult:
    """A cell and its result."""

    cell: HistoryCell
    result: Result

    @property
    def row(self) -> dict[str, Any]:
        """For results.json."""
        cell = self.cell
        where = {"arm": cell.arm, "variant": cell.variant, "delay": cell.delay, "budget_chunks": cell.chunks}
        return {**where, **self.result}


def write_report(
    out: Path, plan: HistoryPlan, played: Sequence[CellResult], planned: int, alone: Mapping[str, Any]
) -> list[str]:
    """Write all files into `out` -> their names."""
    document = document_of(plan, [one.row for one in played], planned, alone)
    shots = alone["utility"]["shots"]
    write_json(out / "results.json", document)
    (out / "README.md").write_text(page(document), encoding="utf-8")
    success_chart(out / "success.png", document)
    cost_chart(out / "cost.png", document["speed"])
    long_chart(out / "long.png", document["long"])
    utility_chart(out / "utility.png", document["utility"], shots)
    return ["README.md", "results.json", "success.png", "cost.png", "long.png", "utility.png"]


def document_of(plan: HistoryPlan, rows: Sequence[Result], planned: int, alone: Mapping[str, Any]) -> dict[str, Any]:
    """Every figure, comparisons and targets."""
    document: dict[str, Any] = {
        "made_with": {
            **machine(),
            "torch": torch.__version__,
            "cpu_capability": torch.backends.cpu.get_cpu_capability(),
            "checkpoint": plan.checkpoint.name,
            "episodes_per_cell": plan.episodes,
            "seed": plan.seed,
            "noise_sigma": NOISE_SIGMA,
            "window_frames": WINDOW_FRAMES,
            "decay": plan.history.decay,
            "cells": planned,
            "cells_played": len(rows),
        },
        "hard": {"variant": plan.variant, "delay": LONG, "budget_chunks": BUDGET},
        "rows": [_public(row) for row in rows],
        "speed": alone["speed"],
        "long": alone["long"],
        "utility": {key: value for key, value in alone["utility"].items() if key != "shots"},
    }
    document["comparisons"] = comparisons(rows, plan.variant)
    document["targets"] = targets(document)
    return document


def _public(row: Result) -> dict[str, Any]:
    return {key: value for key, value in row.items() if key not in UNSEEN}
