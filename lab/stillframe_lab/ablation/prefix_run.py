"""`stillframe study prefix-caches`: play every cell, race the arms, write the report.

Knows the order and the folders; each part is its own module. Finished results on disk are not made again.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from stillframe.models.base import PolicyModel
from stillframe_lab.ablation.cell import open_cpu_model
from stillframe_lab.ablation.prefix import PrefixPlan, forced_arms
from stillframe_lab.ablation.prefix_cell import play_prefix_cell
from stillframe_lab.ablation.prefix_report import PrefixResults, write_prefix_report
from stillframe_lab.ablation.prefix_runner import pi0_of
from stillframe_lab.ablation.prefix_speed import prefix_race
from stillframe_lab.ablation.speed import UntrainedModel, expert_episodes, record_episodes
from stillframe_lab.evaluation.jobs import Folders, JobReporter, load_or_make, run_missing

RACED_EPISODES = 20  # of pick: a chunk is asked for every few steps
UNTRAINED_EPISODES = 2  # a big model takes seconds for each picture
UNTRAINED_EVERY = 5  # steps
UNTRAINED_REUSED = 128  # tokens of a camera's 256


def run_prefix(
    plan: PrefixPlan, folders: Folders, workers: int, untrained: UntrainedModel, reporter: JobReporter
) -> tuple[str, ...]:
    """Do what is missing, then write the report into `folders.out`; the names of what is written.

    Raises ConfigError for a policy that draws no chunk over a prefix.
    """
    open_model = partial(open_cpu_model, plan.family.checkpoint, plan.family.checkpoint_config)
    pi0_of(open_model())
    folders.create()
    jobs = plan.jobs(folders.work)
    run_missing(play_prefix_cell, jobs, workers, reporter)
    reporter.stage("every arm in turn about the same pictures, on one thread")
    speeds = {
        plan.family.name: load_or_make(
            folders.work / "speed.json",
            plan.origin(*plan.arms(), raced=RACED_EPISODES),
            lambda: _raced(plan, open_model()),
        ),
        untrained.name: load_or_make(
            folders.work / "speed-untrained.json",
            {"untrained": untrained.name, "raced": [UNTRAINED_EPISODES, UNTRAINED_EVERY, UNTRAINED_REUSED]},
            partial(_untrained, untrained),
        ),
    }
    reporter.stage("tables")
    played = {job.cell.name: job.result or {} for job in jobs}
    return write_prefix_report(folders.out, plan, PrefixResults(played, speeds))


def _raced(plan: PrefixPlan, model: PolicyModel) -> dict[str, Any]:
    """A policy on its own episodes."""
    execute = plan.family.execute or model.info.chunk_horizon
    return prefix_race(model, record_episodes(model, RACED_EPISODES, execute), plan.arms())


def _untrained(untrained: UntrainedModel) -> dict[str, Any]:
    """A wider policy, whose actions mean nothing, on the expert's episodes."""
    with TemporaryDirectory(prefix="stillframe-untrained-") as folder:
        untrained.make(Path(folder))
        model = open_cpu_model(Path(folder), dtype="float32")
        episodes = expert_episodes(model.info.cameras, UNTRAINED_EPISODES, UNTRAINED_EVERY)
        return prefix_race(model, episodes, forced_arms(UNTRAINED_REUSED))
