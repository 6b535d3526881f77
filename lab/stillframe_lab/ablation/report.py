"""The ablation's report: results.json with every figure, README.md with tables, charts.

Knows results; plays nothing.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from stillframe_lab.ablation.charts import speed_chart, success_chart
from stillframe_lab.ablation.plan import (
    ADAPTIVE,
    ADAPTIVE_BLIND,
    ARMS,
    MASKED,
    OFF,
    PAPER_MASKED,
    SELECTED,
    AblationCell,
    AblationPlan,
)
from stillframe_lab.ablation.readme import page
from stillframe_lab.evaluation.page import target, write_json
from stillframe_lab.evaluation.statistics import difference, pooled

Result = Mapping[str, Any]


@dataclass(frozen=True)
class CellResult:
    """A cell and its result."""

    cell: AblationCell
    result: Result

    @property
    def is_arm(self) -> bool:
        """Whether it is in the table of arms, not of forced counts."""
        return self.cell.arm in (*ARMS, SELECTED, MASKED, PAPER_MASKED)


def write_report(out: Path, plan: AblationPlan, played: Sequence[CellResult], speeds: Mapping[str, Any]) -> None:
    """Write results.json, README.md, reuse.png and speed.png into `out`."""
    document: dict[str, Any] = {
        "made_with": made_with(plan.episodes, plan.seed),
        "conditions": by_condition([one for one in played if one.is_arm]),
        "counts": {one.cell.arm: public(one.result) for one in played if not one.is_arm},
        "pooled": by_arm(played, ARMS),
        "speed": speeds,
    }
    document["targets"] = _targets(document)
    write_json(out / "results.json", document)
    (out / "README.md").write_text(page(document), encoding="utf-8")
    success_chart(out / "reuse.png", document["pooled"], {OFF: _clean_off(document), **document["counts"]})
    speed_chart(out / "speed.png", speeds)


def made_with(episodes: int, seed: int) -> dict[str, Any]:
    """What a report's head says of how it was made, as JSON."""
    return {
        "torch": torch.__version__,
        "cpu_capability": torch.backends.cpu.get_cpu_capability(),
        "cores": os.cpu_count(),
        "episodes_per_cell": episodes,
        "seed": seed,
    }


def by_condition(played: Sequence[CellResult]) -> dict[str, dict[str, Result]]:
    """Condition -> arm -> figures, in the plan's order."""
    table: dict[str, dict[str, Result]] = {}
    for one in played:
        table.setdefault(one.cell.condition.name, {})[one.cell.arm] = public(one.result)
    return table


def public(result: Result) -> Result:
    """Without the drift of every answer; percentiles are enough."""
    return {key: value for key, value in result.items() if key != "drifts"}


def _clean_off(document: Mapping[str, Any]) -> Result:
    clean: Result = document["conditions"]["clean"][OFF]
    return clean


def by_arm(played: Sequence[CellResult], arms: Sequence[str]) -> dict[str, Any]:
    """Every arm over all conditions, and its success against `off`."""
    results = {arm: [one.result for one in played if one.cell.arm == arm] for arm in arms}
    return {
        arm: {**pooled(own), **({} if arm == OFF else {"against_off": difference(own, results[OFF])})}
        for arm, own in results.items()
    }


def _targets(document: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Targets: wanted, measured, and whether met."""
    ours, speeds = document["pooled"][ADAPTIVE], document["speed"].values()
    clean = document["conditions"]["clean"]
    blind = document["pooled"][ADAPTIVE_BLIND]
    like_ours = [_like(rows, clean[ADAPTIVE]["reuse_ratio"]) for rows in speeds]
    share = max(row["planning_ms"]["share"] or 0 for rows in speeds for row in rows.values())
    prefill, whole = (min(row[key] or 0 for row in like_ours) for key in ("prefill_speedup", "speedup"))
    lost = 0.0 - 100 * ours["against_off"]["difference"]
    works = {name: _work(arms) for name, arms in document["conditions"].items()}
    worst = max(works, key=works.__getitem__)
    return [
        target("adaptive against off, success lost", "at most 1 point", f"{lost:.1f} points", met=lost <= 1),
        target("adaptive, episodes compared", "at least 300", str(ours["episodes"]), met=ours["episodes"] >= 300),
        *(
            target(
                f"adaptive, reuse over whole episodes, {what}",
                "at least 0.50",
                f"{arm['reuse_ratio']:.2f}",
                met=arm["reuse_ratio"] >= 0.5,
            )
            for what, arm in (("clean", clean[ADAPTIVE]), ("all conditions", ours))
        ),
        *(
            target(
                f"its decoder's work per delta frame, {what}",
                "down by half",
                f"{-100 * (1 - works[name]):.0f} %",
                met=works[name] <= 0.5,
            )
            for what, name in (("clean", "clean"), (f"worst condition ({worst})", worst))
        ),
        target("adaptive, drift p90", "at most 0.02", f"{ours['drift']['p90']:.4f}", met=ours["drift"]["p90"] <= 0.02),
        target(
            "the same without slack", "at most 0.02", f"{blind['drift']['p90']:.4f}", met=blind["drift"]["p90"] <= 0.02
        ),
        target("LLM prefill of a delta frame, at every size", "1.8x faster", f"{prefill:.2f}x", met=prefill >= 1.8),
        target("end to end of a delta frame, at every size", "faster", f"{whole:.2f}x", met=whole > 1),
        target("planning, worst share of a step", "under 3 %", f"{100 * share:.1f} %", met=share < 0.03),
    ]


def _work(arms: Mapping[str, Result]) -> float:
    """The decoder's multiply-adds of a delta frame, of those of a whole one; 1 where there was no delta frame."""
    delta = arms[ADAPTIVE]["decoder_gmacs_delta"]
    return 1.0 if delta is None else float(delta / arms[OFF]["decoder_gmacs"])


def _like(rows: Mapping[str, Result], reuse: float) -> Result:
    """Mode adaptive if it was timed, else the forced count of the closest reuse."""
    raced = {name: row for name, row in rows.items() if name != OFF}
    return raced.get(ADAPTIVE) or min(raced.values(), key=lambda row: abs((row["reuse_ratio"] or 0) - reuse))
