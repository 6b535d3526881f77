"""Times of a run, out of the logs that the bridge leaves: frame to first command, control rate, lateness.

Knows the two logs' lines; starts nothing.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from stillframe_client.jaco2.bridge.frame_log import FRAMES
from stillframe_client.jaco2.bridge.streamer_process import TICKS

BREAK_S = 1.0  # longer between two steps: another episode


def run_figures(folder: Path) -> dict[str, Any]:
    """Raw figures of one run, so that several can be pooled: milliseconds, seconds and counts."""
    ticks = list(read_lines(folder / TICKS))[1:]  # the first is the head
    steps_s = [tick["t"] for tick in ticks for said in tick.get("in", []) if said[0] == "step"]
    gaps_s = [after - before for before, after in pairwise(steps_s) if after - before < BREAK_S]
    sending = [tick for tick in ticks if tick["state"] == "RUNNING" and "sent" in tick]
    return {
        "frame_to_command_ms": _frame_to_command_ms(list(read_lines(folder / FRAMES)), steps_s),
        "answer_ms": [line["ms"] for line in read_lines(folder / FRAMES) if line.get("played")],
        "step_gap_ms": [round(1e3 * gap, 1) for gap in gaps_s],
        "late_ms": [tick["late_ms"] for tick in sending],
        "running_s": len(sending) / 100,
        "held_ticks": sum(tick["state"] == "HOLD" for tick in ticks),
        "limits": _counted(tick.get("limits", []) for tick in sending),
    }


def pooled(runs: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Figures of several runs as one: shares of all values."""
    every = {name: [value for run in runs for value in run[name]] for name in
             ("frame_to_command_ms", "answer_ms", "step_gap_ms", "late_ms")}  # fmt: skip
    gaps = every["step_gap_ms"]
    return {
        "frame_to_command_ms": shares(every["frame_to_command_ms"]),
        "answer_ms": shares(every["answer_ms"]),
        "control_hz": round(1e3 / float(np.mean(gaps)), 2) if gaps else None,
        "late_ms": {**shares(every["late_ms"]), "max": max(every["late_ms"], default=None)},
        "running_s": round(sum(run["running_s"] for run in runs), 1),
        "held_ticks": sum(run["held_ticks"] for run in runs),
    }


def shares(values: Sequence[float]) -> dict[str, float | None]:
    """Median and 99th percentile; None where there is nothing."""
    if not values:
        return {"p50": None, "p99": None}
    return {"p50": round(float(np.percentile(values, 50)), 3), "p99": round(float(np.percentile(values, 99)), 3)}


def _frame_to_command_ms(lines: Sequence[Mapping[str, Any]], steps_s: Sequence[float]) -> list[float]:
    """From a picture's arrival to the tick that first commanded by its answer."""
    found, at = [], np.asarray(steps_s)
    for line in lines:
        if line.get("played"):
            index = int(np.searchsorted(at, line["t"]))
            if index < len(at) and at[index] - line["t"] < BREAK_S:
                found.append(round(1e3 * float(at[index] - line["observed"]), 1))
    return found


def _counted(names: Iterator[Sequence[str]]) -> dict[str, int]:
    counts: dict[str, int] = {}
    for some in names:
        for name in set(some):
            counts[name] = counts.get(name, 0) + 1
    return counts


def read_lines(file: Path) -> Iterator[dict[str, Any]]:
    """A log's whole lines; one that is cut off is left out."""
    with file.open(encoding="utf-8") as lines:
        for line in lines:
            if line.endswith("\n"):
                yield json.loads(line)
