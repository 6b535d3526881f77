"""The report of the methods in one suite: its results with every figure, its page, its chart; and all suites' page.

Knows results; plays nothing.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import Any

from stillframe.tools.machine import machine
from stillframe_lab.ablation.charts import success_chart
from stillframe_lab.ablation.plan import ADAPTIVE, OFF
from stillframe_lab.ablation.report import made_with
from stillframe_lab.evaluation.evaluate import wilson
from stillframe_lab.evaluation.page import target, write_json
from stillframe_lab.evaluation.statistics import difference, pooled
from stillframe_lab.evaluation.trace import percentiles
from stillframe_lab.methods.arm_results import TOGETHER
from stillframe_lab.methods.later import all_arms, beside
from stillframe_lab.methods.page import methods_page
from stillframe_lab.methods.plan import MethodsPlan, is_count

Result = Mapping[str, Any]
STATIC = "static-only"
SUITES = ("libero_*", "jaco2*")  # whose results the page is made of


def write_methods(
    out: Path, plan: MethodsPlan, cells: Sequence[Mapping[str, Result]], strip: str | None = None
) -> Sequence[str]:
    """Write the suite's files, and the page of all suites whose results lie in `out`; their names.

    `cells`: arm -> figures, of each cell, in all of which is `off`; of an arm that is only in some, those count. What
    lies in `out` of other arms on the same states stays, beside them.
    `strip`: the name of a picture in `out` of what each arm does to some frames.
    """
    played = {name: [cell for cell in cells if name in cell] for name in plan.arms}
    arms = {
        name: _arm([cell[name] for cell in own], [cell[OFF] for cell in own], name)
        for name, own in played.items()
        if own
    }
    file = out / f"{plan.name}.json"
    there = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else None
    played_now = {
        "made_with": {**made_with(plan.episodes, plan.seed), **machine()},
        "suite": plan.bench.label,
        "tasks": [*plan.tasks],
        "checkpoint": plan.checkpoint.name,
        "execute": plan.execute,
        **plan.bench.origin,
        **plan.bench.seen_as,
        "look": plan.bench.look,
        "arms": arms,
        "played_in_turn": _turns(arms, cells),
        "strip": strip,
    }
    document = dict(beside(there, played_now))
    known = all_arms(document)
    document["targets"] = _targets(known)
    write_json(file, document)
    counts = {name: arm for name, arm in known.items() if is_count(name)}
    chart = {name: arm for name, arm in known.items() if name not in counts and arm["drift"]["p90"] is not None}
    success_chart(out / f"{plan.name}.png", chart, {OFF: known[OFF], **counts}, "forced, tokens of each camera")
    files = sorted(file for suite in SUITES for file in out.glob(f"*-{suite}.json"))
    documents = {file.stem: json.loads(file.read_text(encoding="utf-8")) for file in files}
    (out / "README.md").write_text(methods_page(documents), encoding="utf-8")
    return f"{plan.name}.json", f"{plan.name}.png", *([strip] if strip else []), "README.md"


def _arm(cells: Sequence[Result], base: Sequence[Result], name: str) -> dict[str, Any]:
    """An arm over all its cells, and against `off` on the same initial states."""
    frames = sum(cell["frames"] for cell in cells)
    gmacs = [cell["decoder_gmacs"] for cell in cells]
    return {
        **pooled(cells),
        "by_task": _by_task(cells),
        "steps_mean": sum(chain.from_iterable(cell["steps"] for cell in cells)) / sum(one["episodes"] for one in cells),
        "pruned_ratio": sum(cell.get("pruned_ratio", 0.0) * cell["frames"] for cell in cells) / frames,
        "decoder_gmacs": None
        if None in gmacs
        else sum(own * cell["frames"] for own, cell in zip(gmacs, cells, strict=True)) / frames,
        "latency_ms": percentiles([*chain.from_iterable(cell["answers_ms"] for cell in cells)]),
        **({} if name == OFF else {"against_off": difference(cells, base)}),
    }


def _turns(arms: Iterable[str], cells: Sequence[Mapping[str, Result]]) -> list[list[str]]:
    """The arms in groups: in every cell that has them those of one group were played in turn, with the same others."""
    groups: dict[tuple[tuple[str, ...], ...], list[str]] = {}
    for name in arms:
        others = tuple(tuple(cell[name][TOGETHER]) if name in cell else () for cell in cells)
        groups.setdefault(others, []).append(name)
    return [*groups.values()]


def _by_task(cells: Iterable[Result]) -> dict[str, dict[str, Any]]:
    """Task -> episodes, wins and their interval."""
    outcomes: dict[str, str] = {}
    for cell in cells:
        for task, own in cell["outcomes"].items():
            outcomes[task] = outcomes.get(task, "") + own
    return {
        task: {"episodes": len(own), "wins": own.count("1"), "success_ci95": wilson(own.count("1"), len(own))}
        for task, own in sorted(outcomes.items())
    }


def _targets(arms: Mapping[str, Result]) -> list[dict[str, Any]]:
    """What the table was to show, of those arms that were played."""
    found = []
    if STATIC in arms:
        apart = arms[STATIC]["against_off"]
        words = (
            f"{100 * apart['difference']:+.1f} points ({100 * apart['ci95'][0]:+.1f} to {100 * apart['ci95'][1]:+.1f})"
        )
        met = apart["difference"] <= -0.05 and apart["ci95"][1] < 0
        found.append(
            target("static-only against off: the suite tells methods apart", "-5 or less, below 0", words, met=met)
        )
    if ADAPTIVE in arms:
        lost, reuse = 0.0 - 100 * arms[ADAPTIVE]["against_off"]["difference"], arms[ADAPTIVE]["reuse_ratio"]
        found.append(target("adaptive against off, success lost", "at most 1.5 points", f"{lost:.1f}", met=lost <= 1.5))
        found.append(target("adaptive, reuse over whole episodes", "at least 0.50", f"{reuse:.2f}", met=reuse >= 0.5))
    return found
