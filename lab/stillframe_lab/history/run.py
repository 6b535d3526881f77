"""`stillframe study memory`: time the arms, play every cell, write the report.

Knows the order and the folders; each part is its own module. Finished results on disk are not made again, and what a
run leaves out is taken over from the report that is there.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import replace
from functools import cached_property, partial
from typing import Any

import torch

from stillframe.errors import ConfigError
from stillframe.history.checkpoint import HistoryWeights, load_history
from stillframe.models.base import PolicyModel
from stillframe_lab.evaluation.jobs import (
    Folders,
    Job,
    JobReporter,
    checkpoint_digest,
    load_or_make,
    load_result,
    run_missing,
)
from stillframe_lab.history.cell import open_policy, play_cell
from stillframe_lab.history.earlier import MARK, marked, read_earlier
from stillframe_lab.history.long_episode import long_episodes
from stillframe_lab.history.plan import PROOF, HistoryPlan, origin_of
from stillframe_lab.history.results import RESULTS, CellResult, made_with, write_report
from stillframe_lab.history.speed import race_arms
from stillframe_lab.history.two_memories import write_figure
from stillframe_lab.history.utility import utilities

BOTH = "both.png"  # the two memories, for README
PICTURED = "utility"  # an episode in pictures; the two memories are drawn where it is made
Measure = Callable[[HistoryPlan, PolicyModel, HistoryWeights], dict[str, Any]]
ALONE: dict[str, tuple[str, Measure]] = {  # by file name: stage line, and a measurement that needs an idle machine
    "speed": ("time: every arm in turn about the same pictures, on one thread", race_arms),
    "long": ("an episode of a thousand steps", long_episodes),
    PICTURED: ("what every frame of an episode is worth", utilities),
}


def run_memory(
    plan: HistoryPlan, folders: Folders, workers: int, reporter: JobReporter, names: Sequence[str] = ()
) -> list[str]:
    """Do what is missing of what `names` name, none: of all, then write the report into `folders.out` -> its files.

    A name is a cell's, `proof` for all of the proof's, or one of ALONE. What is not named stands in the report as
    finished results have it, else as an earlier run's report in `folders.out` has it. Raises CheckpointError for a
    checkpoint without history weights, ConfigError for an unknown name. An interrupt still writes a report of what is
    finished; another run continues from there.
    """
    named = _named(plan, names)
    load_history(plan.checkpoint, torch.device("cpu"))  # before anything is measured
    folders.create()
    weights = checkpoint_digest(plan.checkpoint)
    run = _Run(plan, folders, weights, made_with(plan, weights))
    alone = run.measured(named, reporter)
    reporter.stage("episodes")
    try:
        run_missing(play_cell, [job for job in run.jobs if job.cell.name in named], workers, reporter)
    except KeyboardInterrupt:
        run.report(alone)
        raise
    return run.report(alone)


def _named(plan: HistoryPlan, names: Sequence[str]) -> set[str]:
    """The cells and measurements to make, by name."""
    cells = [cell.name for cell in plan.cells()]
    groups = {name: [name] for name in (*ALONE, *cells)} | {PROOF: [cell.name for cell in plan.proof()]}
    unknown = [name for name in names if name not in groups]
    if unknown:
        raise ConfigError(
            f"--cell {unknown[0]}: expected some of {', '.join((PROOF, *ALONE))}, or cells by name, such as {cells[0]}"
        )
    return {one for name in names or groups for one in groups[name]}


class _Run:
    """One run: its plan, its folders, and what was there before it."""

    def __init__(self, plan: HistoryPlan, folders: Folders, weights: str, made: dict[str, Any]):
        self.plan, self.folders, self._made, self._weights = plan, folders, made, weights
        self.jobs = [Job(cell, origin_of(cell, weights), folders.work / f"{cell.name}.json") for cell in plan.cells()]
        self._earlier = read_earlier(folders.out / RESULTS, made, plan.variant)

    @cached_property
    def _policy(self) -> tuple[PolicyModel, HistoryWeights]:
        """Model and history weights, loaded on first use."""
        return open_policy(self.plan.checkpoint)

    def measured(self, named: Collection[str], reporter: JobReporter) -> dict[str, Any]:
        """Time what needs an idle machine; the cells come after, and use all cores."""
        origin = origin_of(replace(self.plan, episodes=1, proof_episodes=1), self._weights)  # no matter how many
        found = {}
        for name, (line, measure) in ALONE.items():
            file = self.folders.work / f"{name}.json"
            known = None if name in named else load_result(file, origin) or self._taken_over(name)
            if known is None:
                reporter.stage(line)
                known = load_or_make(file, origin, partial(self._make, measure))
            found[name] = known
        if MARK not in found[PICTURED]:
            write_figure(self.folders.out / BOTH, self.plan, *self._policy)
        return found

    def _make(self, measure: Measure) -> dict[str, Any]:
        return measure(self.plan, *self._policy)

    def _taken_over(self, name: str) -> dict[str, Any] | None:
        return None if self._earlier is None else marked(self._earlier[name], self._earlier)

    def report(self, alone: dict[str, Any]) -> list[str]:
        """Write what there is -> the files."""
        played = [CellResult(job.cell, job.result) for job in self.jobs if job.result is not None]
        written = write_report(self.folders.out, self.plan, self._made, played, alone, self._earlier)
        return written if MARK in alone[PICTURED] else [*written, BOTH]
