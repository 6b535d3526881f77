"""The evaluation's report: results.json with every figure, README.md made of it.

Knows finished episodes and figures; plays nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from stillframe.tools.machine import machine
from stillframe_lab.bridge.cells import EVAL, Cell, Played, Results
from stillframe_lab.bridge.figures import pooled
from stillframe_lab.evaluation.evaluate import wilson
from stillframe_lab.evaluation.page import number, success, table, target, targets_table, write_json

TARGETS_POINTS = {"lockstep": 3.0, "realtime": 3.0, "lockstep-100ms": 10.0, "realtime-100ms": 10.0}
HEAD = """\
# The bridge, end to end

Made by `stillframe study bridge`: daemon, bridge, its streamer and the simulated Jaco2 are each their own process, in
real time, over HTTP, pipes and a Unix socket. Task {task}, the same seeds from {seed} on in every line, policy
{policy}. {cpu}, {cores} cores, which all of these processes share. Every figure is in [results.json](results.json).

Limits are the ceilings, since this policy's actions need them: speed 1.0, 0.20 m/s, 0.64 m/s2. An arm's first run is
at a quarter of the speed.
"""
READING = """\
## How to read it

- **eval** is `stillframe eval --server` over the same daemon: the scene stands still while the policy computes. The
  bridge's world never waits.
- **lockstep** looks, asks, moves and looks again; **realtime** sends a frame each control step and plays the newest
  answer; one that comes over a step late is shortened by what was played since. **100 ms**: a proxy delivers each byte
  50 ms later, both ways.
- **frame to command**: from a picture's arrival at the bridge to the 10 ms tick that first commands by its answer.
- **control rate**: actions played a second. **late**: how late the streamer's 10 ms ticks came while it drove the arm,
  and the simulated world's, of its worst ten episodes. Both ask for real-time scheduling, which was allowed here:
  where it is not, expect milliseconds on a busy machine.
- **held**: ticks at which the streamer came to rest by itself, because an answer was late, and went on with the next.
- **steps**: control periods from the first motion on; an episode is cut off after 120 (lock-step: 120 answers).
"""


def write_report(results: Results, cells: Sequence[Cell], plan: Mapping[str, Any], out: Path) -> dict[str, Any]:
    """Write `out`/results.json and README.md -> the document."""
    rows = {cell.name: _row(results, cell) for cell in cells if results.episodes(cell.name)}
    document = {"made_with": {**plan, **machine()}, "targets": _targets(rows), "cells": rows}
    out.mkdir(parents=True, exist_ok=True)
    write_json(out / "results.json", document)
    (out / "README.md").write_text(page(document), encoding="utf-8")
    return document


def page(document: Mapping[str, Any]) -> str:
    """The whole README.md."""
    cells = document["cells"]
    parts = [
        HEAD.format(**document["made_with"]),
        f"## What was to be reached\n\n{targets_table(document['targets'])}",
        f"## Success\n\n{_successes(cells)}",
        f"## Times\n\n{_times({name: row for name, row in cells.items() if name != EVAL})}",
        READING,
    ]
    return "\n".join(parts)


def _row(results: Results, cell: Cell) -> dict[str, Any]:
    played = results.episodes(cell.name)
    figures = results.figures(cell.name)
    wins = sum(episode.success for episode in played)
    return {
        "episodes": len(played),
        "wins": wins,
        "success": wins / len(played),
        "success_ci95": wilson(wins, len(played)),
        "wrong_object": sum(episode.wrong_object for episode in played),
        "faults": sum(episode.fault for episode in played),
        "steps_mean": _mean(played, "steps"),
        "answers_mean": _mean(played, "answers"),
        "seconds_mean": _mean(played, "seconds"),
        "failed_seeds": [episode.seed for episode in played if not episode.success],
        **({"times": pooled(figures), "world_late_ms": _worst(figures)} if figures else {}),
    }


def _worst(figures: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """Of the world's own beats: the worst batch's."""
    late = [one["world"]["late_ms"] for one in figures]
    return {name: max(batch.get(name, 0.0) for batch in late) for name in ("p50", "p99", "max")}


def _mean(played: Sequence[Played], name: str) -> float:
    return round(float(np.mean([getattr(episode, name) for episode in played])), 2)


def _targets(rows: Mapping[str, Mapping[str, Any]]) -> list[dict[str, Any]]:
    """What was to be reached, for the cells that were played."""
    if EVAL not in rows:
        return []
    base = rows[EVAL]["success"]
    found = []
    for name, points in TARGETS_POINTS.items():
        if name in rows:
            behind = 100 * (base - rows[name]["success"])
            measured = "the same" if not behind else f"{abs(behind):.1f} points {'behind' if behind > 0 else 'ahead'}"
            found.append(target(name, f"within {points:g} points of eval", measured, met=behind <= points))
    return found


def _successes(rows: Mapping[str, Mapping[str, Any]]) -> str:
    head = ("", "success (95 % interval)", "wrong cube", "faults", "answers", "steps", "seconds")
    return table(head, [
        (name, success(row), str(row["wrong_object"]), str(row["faults"]), number(row["answers_mean"], 1),
         number(row["steps_mean"], 1), number(row["seconds_mean"], 1))
        for name, row in rows.items()
    ])  # fmt: skip


def _times(rows: Mapping[str, Mapping[str, Any]]) -> str:
    head = ("", "frame to command p50 / p99, ms", "answer p50 / p99, ms", "control rate, Hz",
            "streamer late p50 / p99 / max, ms", "world late, likewise", "held, ticks beside all that ran")  # fmt: skip
    return table(head, [_time_row(name, row) for name, row in rows.items() if "times" in row])


def _time_row(name: str, row: Mapping[str, Any]) -> tuple[str, ...]:
    times, world = row["times"], row["world_late_ms"]
    late, total = times["late_ms"], round(100 * times["running_s"])
    return (
        name,
        _pair(times["frame_to_command_ms"], 0),
        _pair(times["answer_ms"], 0),
        number(times["control_hz"], 2),
        f"{_pair(late, 2)} / {number(late['max'], 1)}",
        f"{_pair(world, 1)} / {number(world['max'], 0)}",
        f"{times['held_ticks']}, {total}",
    )


def _pair(values: Mapping[str, float | None], digits: int) -> str:
    return f"{number(values['p50'], digits)} / {number(values['p99'], digits)}"
