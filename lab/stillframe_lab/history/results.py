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
from stillframe_lab.history.charts import cost_chart, long_chart, proof_chart, success_chart
from stillframe_lab.history.earlier import Document, kept_comparisons, with_earlier
from stillframe_lab.history.plan import BUDGET, LONG, NOISE_SIGMA, HistoryCell, HistoryPlan
from stillframe_lab.history.readme import page
from stillframe_lab.history.targets import comparisons, scopes_of, targets
from stillframe_lab.history.utility_chart import utility_chart

Result = Mapping[str, Any]
RESULTS = "results.json"
UNSEEN = (
    "drifts",
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


def made_with(plan: HistoryPlan, weights: str) -> dict[str, Any]:
    """The machine and all that the results depend on; `weights` is the checkpoint's digest."""
    return {
        **machine(),
        "torch": torch.__version__,
        "cpu_capability": torch.backends.cpu.get_cpu_capability(),
        "checkpoint": plan.checkpoint.name,
        "weights": weights,
        "episodes_per_cell": plan.episodes,
        "proof_episodes": plan.proof_episodes,
        "seed": plan.seed,
        "noise_sigma": NOISE_SIGMA,
        "window_frames": WINDOW_FRAMES,
        "decay": plan.history.decay,
    }


def write_report(
    out: Path,
    plan: HistoryPlan,
    made: Mapping[str, Any],
    played: Sequence[CellResult],
    alone: Mapping[str, Any],
    earlier: Document | None = None,
) -> list[str]:
    """Write all files into `out` -> their names. Pictures of what was taken over from `earlier` stay as they are."""
    document = document_of(plan, made, [one.row for one in played], alone, earlier)
    write_json(out / RESULTS, document)
    (out / "README.md").write_text(page(document), encoding="utf-8")
    proof_chart(out / "proof.png", document)
    success_chart(out / "success.png", document)
    cost_chart(out / "cost.png", document["speed"])
    long_chart(out / "long.png", document["long"])
    written = ["README.md", RESULTS, "proof.png", "success.png", "cost.png", "long.png"]
    if shots := alone["utility"].get("shots"):
        utility_chart(out / "utility.png", document["utility"], shots)
        written.append("utility.png")
    return written


def document_of(
    plan: HistoryPlan,
    made: Mapping[str, Any],
    rows: Sequence[Result],
    alone: Mapping[str, Any],
    earlier: Document | None = None,
) -> dict[str, Any]:
    """Every figure, comparisons and targets; of cells that were not played now what `earlier` has."""
    planned = [cell.key for cell in plan.cells()]
    merged = with_earlier([_public(row) for row in rows], planned, earlier)
    document: dict[str, Any] = {
        "made_with": {**made, "cells": len(planned), "cells_played": len(merged)},
        "hard": {"variant": plan.variant, "delay": LONG, "budget_chunks": BUDGET},
        "rows": merged,
        "speed": alone["speed"],
        "long": alone["long"],
        "utility": {key: value for key, value in alone["utility"].items() if key != "shots"},
    }
    scopes = scopes_of(merged, plan.variant)
    document["comparisons"] = kept_comparisons(comparisons(merged, plan.variant), scopes, earlier)
    document["targets"] = targets(document)
    return document


def _public(row: Result) -> dict[str, Any]:
    return {key: value for key, value in row.items() if key not in UNSEEN}
