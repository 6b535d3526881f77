"""The ablation's README.md: its tables in Markdown, and how to read them.

Knows a finished results document; computes nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from stillframe_lab.evaluation.page import number, success, table, targets_table

Result = Mapping[str, Any]
COLUMNS = (
    *("success (95 % interval)", "reuse", "keyframes", "decoder GMAC/step", "LLM prefill p50, ms"),
    *("end to end p50 / p99, ms", "drift p50 / p90 / p99"),
)
CONDITIONS = {
    "clean": "Front camera, perfect",
    "noise": "Front camera, sensor noise (sigma 2 of 255)",
    "JPEG": "Front camera through JPEG 90",
    "distractor": "Front camera, something moves in the background",
    "front + wrist": "Front and wrist camera (jaco-tiny-wrist, with the knobs calibrated for jaco-tiny)",
}
HEAD = """\
# What reuse does, part by part

Made by `stillframe study ablation` in closed loop with the simulated Jaco2: {episodes_per_cell} episodes a line, half
of them reach and half pick, the same seeds from {seed} on in every line; half as many where a number of tokens is
forced. Torch {torch} on {cores} CPU cores
({cpu_capability}), one thread a process. Every figure is in [results.json](results.json).
"""
SPEED = """\
The arms took turns on the same pictures, in one process. Times are CPU time of the one thread that computes: what a
free core takes, whatever else the machine did. Delta frames only: keyframes, as the first of an episode, cost what
`off` costs.
"""
READING = """\
## How to read it

- **reuse**: token-layers reused / token-layers, over all frames of all episodes, keyframes included.
- **decoder GMAC/step**: multiply-adds of prefill, decoding and output head (10^9), mean over all frames; attention
  counts active rows x all keys.
- **drift**: |action - action of a dense pass on the same picture|, worst dimension, normalised units (the whole range
  is 2, an action bin 0.0078), over delta frames: all where the slack's dense pass measures it, else every fourth.
- **end to end**: from the pictures, as arrays, to the action, in process. Cells were played several at a time on shared
  cores and one after the other, *not* interleaved: compare times within the speed table only.
- **planning**: comparing and choosing tokens, and remembering what was computed. Where the text looks is found in the
  pause after an answer, beside the dense pass; in mode paper, which has no pause, it is part of planning.
- **paper** and its parts run on our engine, which lets a row write its keys and values in the layer in which it leaves:
  a little fresher than published.
- **off**: every frame whole. **static-only**: VLA-Cache's patch similarity alone. **static + relevance**: less the
  task-relevant tokens, in all layers at once. **paper**: with the entropy schedule, as published. **adaptive**: ours,
  with the deployment's knobs; **without slack**: the same with no dense pass between frames, as in a daemon that
  never pauses.
- **N tokens**: so many tokens reused in every layer of every frame but the first, most alike first, with no limit, no
  refresh and no bound; **+ relevance**: none of the 40 with most attention among them.
- The interval of a difference is Newcombe's, which takes the arms as independent: wide for episodes that are paired.
"""


def page(document: Mapping[str, Any]) -> str:
    """The whole README.md."""
    parts = [
        HEAD.format(**document["made_with"]),
        "![success and drift against reuse](reuse.png)\n",
        f"## What was to be reached\n\n{targets_table(document['targets'])}",
        f"## All conditions pooled\n\n{pooled_table(document['pooled'])}",
        *(f"## {CONDITIONS[name]}\n\n{_cells(rows)}" for name, rows in _ordered(document["conditions"])),
        f"## Against the number of reused tokens (front camera, perfect)\n\n{_cells(_counts(document))}",
        f"## Speed\n\n{SPEED}\n{speed_table(document['speed'])}",
        "![speed against reuse](speed.png)\n",
        "## What is recomputed\n\nDelta frames of one pick episode, mode adaptive.\n\n![picture strip](strip.png)\n",
        READING,
    ]
    return "\n".join(parts)


def _ordered(conditions: Mapping[str, Mapping[str, Result]]) -> Sequence[tuple[str, Mapping[str, Result]]]:
    return [(name, conditions[name]) for name in CONDITIONS if name in conditions]


def pooled_table(arms: Mapping[str, Result]) -> str:
    """Every arm over all conditions, and against the arm that reuses nothing."""
    rows = []
    for name, arm in arms.items():
        against = arm.get("against_off")
        apart = (
            ""
            if against is None
            else "{:+.1f} ({:+.1f} to {:+.1f})".format(
                *(100 * value for value in (against["difference"], *against["ci95"]))
            )
        )
        pairs = "" if against is None else f"{against['only_base_succeeds']} / {against['only_arm_succeeds']}"
        rows.append((name, success(arm), apart, pairs, f"{arm['reuse_ratio']:.2f}", drift_words(arm)))
    head = (
        "arm",
        COLUMNS[0],
        "points against off (95 %)",
        "episodes that only off / only it won",
        "reuse",
        COLUMNS[-1],
    )
    return table(head, rows)


def _counts(document: Mapping[str, Any]) -> dict[str, Result]:
    """None at all, which is the arm `off`, and the forced ones."""
    return {"0 tokens (off)": document["conditions"]["clean"]["off"], **document["counts"]}


def _cells(cells: Mapping[str, Result]) -> str:
    return table(("", *COLUMNS), [(name, *_cell(cell)) for name, cell in cells.items()])


def _cell(cell: Result) -> tuple[str, ...]:
    return (
        success(cell),
        f"{cell['reuse_ratio']:.2f}",
        f"{cell['keyframes']} of {cell['frames']}",
        number(cell["decoder_gmacs"], 4),
        number(cell["llm_prefill_ms"]["p50"], 1),
        f"{number(cell['latency_ms']['p50'], 1)} / {number(cell['latency_ms']['p99'], 1)}",
        drift_words(cell),
    )


def speed_table(speeds: Mapping[str, Mapping[str, Result]]) -> str:
    """Every arm of each model's race."""
    head = (
        "model",
        "arm",
        "reuse",
        "GMAC",
        "LLM prefill p50, ms",
        "faster",
        "end to end p50 / p99, ms",
        "faster",
        "planning",
    )
    return table(head, [(model, *_raced(name, row)) for model, rows in speeds.items() for name, row in rows.items()])


def _raced(name: str, row: Result) -> tuple[str, ...]:
    return (
        name,
        number(row["reuse_ratio"], 2),
        number(row["decoder_gmacs"], 3),
        number(row["llm_prefill_ms"]["p50"], 1),
        f"{number(row['prefill_speedup'], 2)}x",
        f"{number(row['latency_ms']['p50'], 1)} / {number(row['latency_ms']['p99'], 1)}",
        f"{number(row['speedup'], 2)}x",
        f"{number(row['planning_ms']['p50'], 2)} ms, {number(100 * (row['planning_ms']['share'] or 0), 1)} %",
    )


def drift_words(result: Result) -> str:
    """p50, p90 and p99 of a result."""
    return " / ".join(number(result["drift"][share], 4) for share in ("p50", "p90", "p99"))
