"""The prefix ablation's report: results.json with every figure, README.md with tables and what they mean.

Knows results; plays nothing.
"""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stillframe.tools.machine import machine
from stillframe_lab.ablation.prefix import ACROSS, BOTH, OFF, TASK, WITHIN, PrefixPlan
from stillframe_lab.ablation.readme import drift_words
from stillframe_lab.ablation.report import made_with, public
from stillframe_lab.evaluation.page import number, success, table, write_json
from stillframe_lab.evaluation.statistics import difference

Result = Mapping[str, Any]
WRITTEN = ("README.md", "results.json")
ARMS = (OFF, WITHIN, ACROSS, BOTH)
HEAD = """\
# What is kept of a prefix, within a frame and across frames

Made by `stillframe study prefix-caches` with {policy}, {family}, {millions:.1f} million parameters: chunks of
{horizon} actions in {steps} steps from noise, of which {execute} are played. Task {task}, {episodes_per_cell} episodes
a line, the same seeds from {seed} on in every line. {cpu}, {cores} cores ({cpu_capability}), torch {torch}, commit
{commit}. Every figure is in [results.json](results.json).

A policy of this kind reads pictures and text once, as a prefix, and an action expert draws a chunk over the prefix's
keys and values, step by step from noise. They can be kept in two ways: **within a frame**, for all of its steps, which
is exact and what openpi does; and **across frames**, where a patch did not change, which is VLA-Cache's idea and
approximate, for every key of a prefix depends on every row of it.

|  | rows of patches that did not change | the prefix's pass |
| --- | --- | --- |
| **off** | computed | before each of the steps |
| **within** | computed | once a frame |
| **across** | kept from the last frame | before each of the steps |
| **both** | kept from the last frame | once a frame |
"""
READING = """\
## How to read it

- **off** and **within** give the same actions to the bit, and so do **across** and **both**: a pass that is repeated
  writes the same keys. What differs is the work. The pass before each step is there to be measured; the daemon has no
  such mode. Pictures go through the tower once a frame in all four. The expert's own row of the state, which openpi
  computes in every step, is computed once in all four too.
- **prefix rows**: rows that went through the prefix's decoder for an answer, all of its passes together, mean over its
  layers and all answers. **reuse**: the share of a pass's token-layers that was kept, over all frames.
- **drift**: the worst number of the actions that are played, against a dense pass on the same frame with the same
  noise; normalised units, the whole range is 2. Of frames that reused something.
- **ms**: from JPEG to actions, in process: decoding, resizing, tower, plan, prefix, drawing and what is kept for the
  next frame. The arms answered the same pictures in turn, in changing order, in one process. Times are CPU time of the
  one thread that computes. An episode's first frame, for which there is nothing to reuse, is left out; every other
  frame counts, keyframes too.
- The model of random weights is there for its time alone: half of the patches are reused in every layer, whatever they
  show.
- After an answer that reused something a whole pass renews keys and relevance, while the arm moves: that is not part of
  an answer's time. With **both** it took {slack} ms (p50, on shared cores).
- Success is of {episodes_per_cell} episodes: lines whose intervals overlap are not told apart.
"""
RELEVANCE = """\
## Where relevance comes from

`both`, and which patches are never reused because the task looks there: those to which the **text**'s rows attend in
the prefix, those to which the actions of the **expert** attend in the last step of drawing, in its middle layer, or
**none**. Each is asked in a whole pass, a keyframe's or the one after an answer: a copy of a few rows, and in the pause
one product for each layer that is asked.
"""
COLUMNS = (
    *("", "success (95 % interval)", "reuse", "prefix rows an answer", "drift p50 / p90 / p99", "ms p50 / p99"),
    *("against off", "against within"),
)
SPEED_COLUMNS = (
    *("model", "", "reuse", "prefix rows an answer", "tower / prefix / drawing p50, ms", "ms p50 / p99"),
    *("against off", "against within"),
)
RELEVANCE_COLUMNS = (
    *("relevance", "success (95 % interval)", "points against within (95 %)", "reuse", "keyframes"),
    "drift p50 / p90 / p99",
)


@dataclass(frozen=True)
class PrefixResults:
    """All that was measured."""

    cells: Mapping[str, Result]  # arm -> figures
    speeds: Mapping[str, Result]  # model -> arm -> figures; the policy's own first


def write_prefix_report(out: Path, plan: PrefixPlan, results: PrefixResults) -> tuple[str, ...]:
    """Write the report into `out`; the names of its files."""
    contract = results.cells[BOTH]["contract"]
    document = {
        "made_with": {
            **made_with(plan.episodes, plan.seed),
            **machine(),
            "commit": commit(),
            "policy": plan.family.name,
            "task": TASK,
            **contract,
        },
        "cells": {name: public(one) for name, one in results.cells.items()},
        "relevance": {name: _relevance(results.cells, arm.name) for name, arm in plan.by_relevance().items()},
        "speed": results.speeds,
    }
    write_json(out / "results.json", document)
    (out / "README.md").write_text(prefix_page(document), encoding="utf-8")
    return WRITTEN


def prefix_page(document: Mapping[str, Any]) -> str:
    """The whole README.md."""
    made, cells, speeds = document["made_with"], document["cells"], document["speed"]
    head = HEAD.format(**made, millions=made["parameters"] / 1e6)
    slack = number(cells[BOTH]["slack"]["p50_ms"], 1)
    arms = table(COLUMNS, [_row(arm, cells[arm], speeds[made["policy"]][arm]) for arm in ARMS])
    raced = table(SPEED_COLUMNS, [_raced(name, arm, own[arm]) for name, own in speeds.items() for arm in ARMS])
    asked = table(RELEVANCE_COLUMNS, [_asked(name, cells, one) for name, one in document["relevance"].items()])
    return "\n".join(
        (
            head,
            f"## All four\n\n{arms}",
            f"## Speed\n\n{raced}",
            f"{RELEVANCE}\n{asked}",
            READING.format(**made, slack=slack),
        )
    )


def _relevance(cells: Mapping[str, Result], arm: str) -> dict[str, Any]:
    """Which cell it is, and its difference to a policy that keeps nothing across frames."""
    return {"cell": arm, "against_within": difference([cells[arm]], [cells[WITHIN]])}


def _row(arm: str, cell: Result, raced: Result) -> list[str]:
    return [
        f"**{arm}**",
        success(cell),
        f"{cell['reuse_ratio']:.2f}",
        number(cell["prefix_rows"], 0),
        drift_words(cell),
        *_times(raced),
    ]


def _raced(model: str, arm: str, raced: Result) -> list[str]:
    stages = " / ".join(number(raced["stages_ms"][name], 1) for name in ("vision", "prefix", "drawing"))
    return [model, arm, f"{raced['reuse_ratio']:.2f}", number(raced["prefix_rows"], 0), stages, *_times(raced)]


def _times(raced: Result) -> list[str]:
    took = raced["latency_ms"]
    ratios = [f"{raced['against'][name]:.2f}x" for name in (OFF, WITHIN)]
    return [f"{number(took['p50'], 1)} / {number(took['p99'], 1)}", *ratios]


def _asked(name: str, cells: Mapping[str, Result], one: Result) -> list[str]:
    cell, apart = cells[one["cell"]], one["against_within"]
    low, high = (100 * bound for bound in apart["ci95"])
    return [
        name,
        success(cell),
        f"{100 * apart['difference']:+.1f} ({low:+.1f} to {high:+.1f})",
        f"{cell['reuse_ratio']:.2f}",
        f"{cell['keyframes']} of {cell['frames']}",
        drift_words(cell),
    ]


def commit() -> str:
    """The working tree's commit, shortened; 'unknown' where there is no git."""
    git = shutil.which("git")
    asked = [git or "", "-C", str(Path(__file__).parent), "rev-parse", "--short", "HEAD"]
    said = subprocess.run(asked, capture_output=True, text=True, check=False) if git else None  # noqa: S603 (no input)
    return said.stdout.strip() if said is not None and said.returncode == 0 else "unknown"
