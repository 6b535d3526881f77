"""`stillframe eval --memory`: time the arms, play every cell, write the report.

Knows the order and the folders; each part is its own module. Finished results on disk are not made again.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import cached_property
from typing import Any

import torch

from stillframe.history.checkpoint import HistoryWeights, load_history
from stillframe.models.base import PolicyModel
from stillframe_lab.evaluation.jobs import Folders, Job, JobReporter, checkpoint_digest, load_or_make, run_missing
from stillframe_lab.history.cell import open_policy, play_cell
from stillframe_lab.history.long_episode import long_episodes
from stillframe_lab.history.plan import HistoryCell, HistoryPlan, origin_of
from stillframe_lab.history.results import CellResult, write_report
from stillframe_lab.history.speed import race_arms
from stillframe_lab.history.two_memories import write_figure
from stillframe_lab.history.utility import utilities

BOTH = "both.png"  # the two memories, for README
Measure = Callable[[HistoryPlan, PolicyModel, HistoryWeights], dict[str, Any]]
ALONE: dict[str, tuple[str, Measure]] = {  # by file name: stage line, and a measurement that needs an idle machine
    "speed": ("time: every arm in turn about the same pictures, on one thread", race_arms),
    "long": ("an episode of a thousand steps", long_episodes),
    "utility": ("what every frame of an episode is worth", utilities),
}


def run_memory(plan: HistoryPlan, folders: Folders, workers: int, reporter: JobReporter) -> list[str]:
    """Do what is missing, then write the report into `folders.out` -> its files.

    Raises CheckpointError for a checkpoint without history weights. An interrupt still writes a report of what is
    finished; another run continues from there.
    """
    load_history(plan.checkpoint, torch.device("cpu"))  # before anything is measured
    folders.create()
    weights = checkpoint_digest(plan.checkpoint)
    loaded = _LazyPolicy(plan)
    alone = _measure_alone(plan, weights, folders, reporter, loaded)
    write_figure(folders.out / BOTH, plan, *loaded.parts)
    jobs = [Job(cell, origin_of(cell, weights), folders.work / f"{cell.name}.json") for cell in plan.cells()]
    reporter.stage("episodes")
    try:
        run_missing(play_cell, jobs, workers, reporter)
    except KeyboardInterrupt:
        _report(plan, folders, jobs, alone)
        raise
    return _report(plan, folders, jobs, alone)


def _measure_alone(
    plan: HistoryPlan, weights: str, folders: Folders, reporter: JobReporter, loaded: _LazyPolicy
) -> dict[str, Any]:
    """Time what needs an idle machine; the cells come after, and use all cores."""
    origin = origin_of(replace(plan, episodes=1), weights)  # their number does not matter here
    found = {}
    for name, (line, measure) in ALONE.items():
        reporter.stage(line)
        make = _made(measure, plan, loaded)
        found[name] = load_or_make(folders.work / f"{name}.json", origin, make)
    return found


class _LazyPolicy:
    """The policy, loaded on first use."""

    def __init__(self, plan: HistoryPlan):
        self._plan = plan

    @cached_property
    def parts(self) -> tuple[PolicyModel, HistoryWeights]:
        """Model and history weights."""
        return open_policy(self._plan.checkpoint)


def _made(measure: Measure, plan: HistoryPlan, loaded: _LazyPolicy) -> Callable[[], dict[str, Any]]:
    return lambda: measure(plan, *loaded.parts)


def _report(plan: HistoryPlan, folders: Folders, jobs: list[Job[HistoryCell]], alone: dict[str, Any]) -> list[str]:
    played = [CellResult(job.cell, job.result) for job in jobs if job.result is not None]
    return [*write_report(folders.out, plan, played, len(jobs), alone), BOTH]
