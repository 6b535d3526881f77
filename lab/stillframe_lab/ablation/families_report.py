"""The families' report: results.json with every figure, README.md with the same tables for each, charts.

Knows results; plays nothing.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stillframe_lab.ablation.charts import families_chart, speed_chart
from stillframe_lab.ablation.families import FamiliesPlan, family_arms
from stillframe_lab.ablation.readme import CONDITIONS, SPEED, drift_words, pooled_table, speed_table
from stillframe_lab.ablation.report import CellResult, by_arm, by_condition, made_with
from stillframe_lab.evaluation.page import number, success, table, write_json

Result = Mapping[str, Any]
WRITTEN = ("README.md", "results.json", "reuse.png", "speed.png")
COLUMNS = (
    *("", "success (95 % interval)", "wrong cube", "reuse", "keyframes", "decoder GMAC/answer"),
    *("drift p50 / p90 / p99", "answer p50 / p99, ms", "ms/step"),
)
HEAD = """\
# What reuse does, family by family

Made by `stillframe study families` in closed loop with the simulated Jaco2: {episodes_per_cell} episodes a line, half
of them reach and half pick, the same seeds from {seed} on in every line of every family; one thread a process. Every
figure is in [results.json](results.json).
"""
READING = """\
## How to read it

- What the arms are and what **reuse**, **drift** and the intervals mean: [the ablation](../README.md) says it. Each
  checkpoint has its own settings.
- **exact**: reuses what provably cannot differ. Where every row attends to every other one nothing is: the engine
  computes each frame whole, with the reason `inexact`.
- **answer**: from the pictures, as arrays, to the whole chunk, in process. **ms/step**: all answers' time over all
  steps of the robot, those that come out of a chunk among them. Cells were played several at a time: compare times
  within the speed table only.
- **decoder GMAC/answer**: of the language model alone; no vision tower, no head of regression or diffusion.
- **drift** of a chunk: the worst number of those actions that are played, against a dense pass on the same frame with
  the same noise.
"""


@dataclass(frozen=True)
class FamilyResult:
    """All that was measured of a checkpoint."""

    name: str
    played: Sequence[CellResult]
    speed: Mapping[str, Any]


def write_families(out: Path, plan: FamiliesPlan, results: Sequence[FamilyResult]) -> tuple[str, ...]:
    """Write the report into `out`; the names of its files.

    What is there of other families, on the same seeds, stays.
    """
    made = made_with(plan.episodes, plan.seed)
    new = {one.name: {**_family(one), "made_with": made} for one in results}
    document = {"made_with": made, "families": {**_earlier(out, made), **new}}
    write_json(out / "results.json", document)
    (out / "README.md").write_text(families_page(document), encoding="utf-8")
    families_chart(out / "reuse.png", {name: own["pooled"] for name, own in _families(document)})
    speed_chart(out / "speed.png", {name: own["speed"] for name, own in _families(document)})
    return WRITTEN


def _earlier(out: Path, made: Mapping[str, Any]) -> dict[str, Any]:
    """Families of the report in `out`, if its episodes are the same ones."""
    try:
        before = json.loads((out / "results.json").read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    same = all(before["made_with"][key] == made[key] for key in ("episodes_per_cell", "seed"))
    return {name: {"made_with": before["made_with"], **own} for name, own in before["families"].items() if same}


def _families(document: Mapping[str, Any]) -> Sequence[tuple[str, Result]]:
    return [*document["families"].items()]


def _family(one: FamilyResult) -> dict[str, Any]:
    names = [*family_arms(one.played[0].cell.reuse)]
    return {
        "contract": one.played[0].result["contract"],
        "conditions": by_condition(one.played),
        "pooled": by_arm(one.played, names),
        "speed": one.speed,
    }


def families_page(document: Mapping[str, Any]) -> str:
    """The whole README.md."""
    parts = [
        HEAD.format(**document["made_with"]),
        "![success and drift against reuse](reuse.png)\n",
        *(part for name, own in _families(document) for part in _section(name, own)),
        f"## Speed\n\n{SPEED}\n{speed_table({name: own['speed'] for name, own in _families(document)})}",
        "![speed against reuse](speed.png)\n",
        READING,
    ]
    return "\n".join(parts)


def _section(name: str, own: Result) -> list[str]:
    """A family's head and tables."""
    return [
        f"## {name}\n\n{_words(own['contract'], own['made_with'])}",
        *(f"### {_condition(seen)}\n\n{_cells(rows)}" for seen, rows in own["conditions"].items()),
        f"### Both, against `off`\n\n{pooled_table(own['pooled'])}",
    ]


def _condition(name: str) -> str:
    """Its own cameras, whichever they are."""
    return CONDITIONS[name].replace("Front camera, p", "P").replace("Front camera, s", "S")


def _words(contract: Result, made: Result) -> str:
    """What the policy is, and where it was measured."""
    numbers = len(contract["state"])
    state = f"reads {numbers} numbers of the robot's state" if numbers else "reads no state"
    cameras, horizon, execute = " and ".join(contract["cameras"]), contract["horizon"], contract["execute"]
    chunk = "one action an answer" if horizon == 1 else f"{horizon} actions an answer, of which {execute} are played"
    millions = contract["parameters"] / 1e6
    where = f"Torch {made['torch']} on {made['cores']} CPU cores ({made['cpu_capability']})"
    return f"{contract['family']}, {millions:.1f} million parameters; sees {cameras}, {state}; {chunk}. {where}.\n"


def _cells(cells: Mapping[str, Result]) -> str:
    return table(COLUMNS, [(name, *_cell(cell)) for name, cell in cells.items()])


def _cell(cell: Result) -> tuple[str, ...]:
    return (
        success(cell),
        f"{100 * cell['wrong_cube']:.0f} %",
        f"{cell['reuse_ratio']:.2f}",
        f"{cell['keyframes']} of {cell['frames']}{_never(cell)}",
        number(cell["decoder_gmacs"], 4),
        drift_words(cell),
        f"{number(cell['latency_ms']['p50'], 1)} / {number(cell['latency_ms']['p99'], 1)}",
        number(cell["ms_per_step"], 1),
    )


def _never(cell: Result) -> str:
    """Why no frame could reuse anything, where the policy is the reason."""
    return " (inexact)" if [*cell["keyframe_reasons"]] == ["inexact"] else ""
