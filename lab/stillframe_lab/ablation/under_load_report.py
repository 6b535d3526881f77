"""The report of drift under load: results.json with every figure, and the table of the page that says the rule.

Knows traces; plays nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stillframe.errors import ConfigError
from stillframe.tools.marked_page import replace_between
from stillframe_lab.ablation.under_load import BLIND, ArmTrace, LoadPlan
from stillframe_lab.evaluation.page import number, table, write_json

Result = Mapping[str, Any]
BEGIN, END = "<!-- {name}: begin -->", "<!-- {name}: end -->"
PERCENTILES = {"p50": 50, "p90": 90, "p99": 99}
COLUMNS = (
    *("", "drift p90, all answers", "of delta frames", "p99", "over budget", "reuse", "keyframes"),
    *("answers/s against no measure", "p50 / p99, ms", "device ms an answer: frames + refreshes + audits"),
    *("CPU ms an answer", "against no measure", "refreshes / audits / given up"),
)


def figures(plan: LoadPlan, traces: Mapping[str, ArmTrace], where: Mapping[str, Any]) -> dict[str, Any]:
    """Every arm's figures, as JSON. `where`: the machine, and its load as the rounds began."""
    arms = {name: _arm(plan, trace) for name, trace in traces.items()}
    for name, arm in arms.items():
        # Of pairs of rounds that ran one after the other: the machine's load moves more slowly than that.
        blind, own = traces[BLIND], traces[name]
        arm["throughput"] = float(np.median(np.divide(blind.rounds_s, own.rounds_s)))
        arm["cpu"] = float(np.median(np.divide(own.rounds_cpu_s, blind.rounds_cpu_s)))
    return {"machine": where, "plan": asdict(plan), "arms": arms}


def write_under_load(page: Path, name: str, found: Mapping[str, Any]) -> None:
    """Replace one table of the page, and the JSON beside it. Raises ConfigError for a page without its marks."""
    try:
        replace_between(page, BEGIN.format(name=name), END.format(name=name), f"\n{_table(found)}\n")
    except (OSError, ValueError) as error:
        raise ConfigError(f"--out: {error}") from error
    write_json(page.with_name(f"{page.stem}-{name}.json"), found)


def _arm(plan: LoadPlan, trace: ArmTrace) -> dict[str, Any]:
    steps = [answered.step for answered in trace.answers]
    drifts = np.array([answered.drift for answered in trace.answers])
    deltas = np.array([step.report.cache.keyframe_reason is None for step in steps])
    audits = [report for report in trace.reports if report.audit]
    refreshes = [report for report in trace.reports if not report.audit]
    each = len(steps)
    return {
        "answers": each,
        "drift": _percentiles(drifts),
        "delta_drift": _percentiles(drifts[deltas]),
        "over_budget": float(np.mean(drifts > plan.reuse.drift_budget)),
        "reuse_ratio": float(np.mean([step.report.cache.reuse_ratio for step in steps])),
        "keyframes": float(1 - np.mean(deltas)),
        "latency_ms": _percentiles(np.array([step.report.total_ms for step in steps])),
        "device_ms": {
            "frames": sum(step.report.computed_ms / step.report.batch for step in steps) / each,
            "refreshes": sum(report.duration_ms for report in refreshes) / each,
            "audits": sum(report.duration_ms for report in audits) / each,
        },
        "cpu_ms": float(np.median(trace.rounds_cpu_s)) * 1e3,
        "refreshes": sum(report.drift is not None for report in refreshes),
        "audits": sum(report.drift is not None for report in audits),
        "given_up": sum(report.drift is None for report in trace.reports),
    }


def _percentiles(values: NDArray[np.float64]) -> dict[str, float | None]:
    """None where there are none."""
    return {name: float(np.percentile(values, q)) if values.size else None for name, q in PERCENTILES.items()}


def _table(found: Mapping[str, Any]) -> str:
    """What was played and where, and a line for each arm."""
    where, plan = found["machine"], found["plan"]
    played = f"{plan['robots']} robots, {plan['rounds'] - plan['unsettled']} rounds in turn"
    paused = f"{plan['pause_s'] * 1e3:g} ms from an answer to the next frame" if plan["pause_s"] else "no pauses"
    loads = " / ".join(f"{load:g}" for load in where["load_average"])
    lead = f"{where['cpu']}, {where['cores']} cores, load averages before {loads}. {played}, {paused}."
    return f"{lead}\n\n" + table(COLUMNS, [[name, *_row(arm)] for name, arm in found["arms"].items()])


def _row(arm: Result) -> list[str]:
    work, times = arm["device_ms"], arm["latency_ms"]
    parts = " + ".join(number(work[name], 1) for name in ("frames", "refreshes", "audits"))
    return [
        number(arm["drift"]["p90"], 4),
        number(arm["delta_drift"]["p90"], 4),
        number(arm["drift"]["p99"], 3),
        f"{arm['over_budget']:.1%}",
        number(arm["reuse_ratio"], 2),
        f"{arm['keyframes']:.0%}",
        f"{arm['throughput']:.2f}x",
        f"{times['p50']:.0f} / {times['p99']:.0f}",
        f"{sum(work.values()):.1f} = {parts}",
        number(arm["cpu_ms"], 1),
        f"{arm['cpu']:.2f}x",
        f"{arm['refreshes']} / {arm['audits']} / {arm['given_up']}",
    ]
