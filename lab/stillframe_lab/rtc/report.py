"""`stillframe study rtc`: play what is missing, then write results.json and README.md made of it.

Knows finished cells and their order.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from stillframe.tools.machine import machine
from stillframe_lab.evaluation.jobs import Folders, JobReporter, run_missing
from stillframe_lab.evaluation.page import number, success, table, write_json
from stillframe_lab.rtc.cells import RtcPlan, play_cell

HEAD = """\
# Real-time chunking in the simulator

Made by `stillframe study rtc`. Policy {checkpoint}, chunks of {horizon} actions at {hz} Hz, task {task},
{episodes} episodes a line, the same seeds from {seed} on. {cpu}, {cores} cores. Every figure is in
[results.json](results.json).

The arm asks for its next chunk once {execute} actions of one are played, and goes on playing; the chunk comes so many
control steps later as the delay says, however long computing it took here. Only an episode's first chunk is waited for.
"""
READING = """\
## How to read it

- **switch** goes on with the new chunk where the robot is; **linear** goes over to it bit by bit in the client, over
  all steps that both chunks reach (`ChunkPlayer(blend="linear")`); **rtc** has the policy draw the new chunk so that it
  goes on with the old one (`rtc`, strength {rtc_strength:g}, Jacobian: {rtc_jacobian}).
- **jerk**: mean magnitude of the third difference of commanded positions, over all steps, and over those triples of
  steps that lie in both chunks of a seam. **jump**: how far the new chunk's first step was from the one that the old
  chunk had for it.
- **steps**: control steps of an episode, on average; **seams**: chunks that were taken up while another was played.
- Success is of few episodes: its 95 % interval is wide, and lines whose intervals overlap are not told apart.
"""
COLUMNS = (
    "delay", "way", "success", "jerk at seams, m/s3", "jerk, m/s3", "jump, mm", "steps", "seams"
)  # fmt: skip


def run_rtc(plan: RtcPlan, folders: Folders, workers: int, reporter: JobReporter) -> None:
    """Do what is missing, then write results.json and README.md into `folders.out`."""
    folders.create()
    jobs = plan.jobs(folders.work)
    run_missing(play_cell, jobs, workers, reporter)
    document = {
        "made_with": {
            "checkpoint": plan.checkpoint.name,
            "task": plan.task,
            "episodes": plan.episodes,
            "seed": plan.seed,
            "hz": plan.hz,
            "rtc_strength": plan.decoding.rtc_strength,
            "rtc_jacobian": plan.decoding.rtc_jacobian,
            **machine(),
        },
        "cells": {
            job.cell.name: {"way": job.cell.way, "delay_ms": job.cell.delay_ms, **(job.result or {})} for job in jobs
        },
    }
    write_json(folders.out / "results.json", document)
    (folders.out / "README.md").write_text(page(document), encoding="utf-8")


def page(document: Mapping[str, Any]) -> str:
    """The whole README.md."""
    made, cells = document["made_with"], [*document["cells"].values()]
    head = HEAD.format(**made, horizon=cells[0]["horizon"], execute=cells[0]["execute"])
    figures = table(COLUMNS, [_row(cell) for cell in cells])
    return "\n".join((head, f"## Figures\n\n{figures}", READING.format(**made)))


def _row(cell: Mapping[str, Any]) -> list[str]:
    return [
        f"{cell['delay_ms']} ms",
        cell["way"],
        success(cell),
        number(cell["jerk_at_seams"], 2),
        number(cell["jerk"], 2),
        number(cell["jump_mm"], 2),
        number(cell["steps_mean"], 1),
        str(cell["seams"]),
    ]
