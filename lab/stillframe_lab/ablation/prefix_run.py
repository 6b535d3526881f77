"""`stillframe eval --prefix-caches`: play every cell, race the arms, write the report.

Knows the order and the folders; each part is its own module. Finished results on disk are not made again.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from stillframe.models.base import PolicyModel
from stillframe_lab.ablation.cell import open_cpu_model
from stillframe_lab.ablation.prefix import PrefixPlan
from stillframe_lab.ablation.prefix_cell import play_prefix_cell
from stillframe_lab.ablation.prefix_report import PrefixResults, write_prefix_report
from stillframe_lab.ablation.prefix_runner import pi0_of
from stillframe_lab.ablation.prefix_speed import prefix_race
from stillframe_lab.ablation.speed import UntrainedModel, record_episodes
from stillframe_lab.evaluation.jobs import Folders, JobReporter, load_or_make, run_missing
from stillframe_lab.evaluation.race import Observed

RACED_EPISODES = 20  # of pick: a chunk is asked for every few steps
UNTRAINED_EPISODES = 2  # a big model takes seconds for each picture
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
            lambda: prefix_race(model := open_model(), _recorded(plan, model, RACED_EPISODES), plan.arms()),
        ),
        untrained.name: load_or_make(
            folders.work / "speed-untrained.json",
            plan.origin(*plan.forced_arms(UNTRAINED_REUSED), raced=UNTRAINED_EPISODES, untrained=untrained.name),
            lambda: _untrained(plan, open_model, untrained),
        ),
    }
    reporter.stage("tables")
    played = {job.cell.name: job.result or {} for job in jobs}
    return write_prefix_report(folders.out, plan, PrefixResults(played, speeds))


def _untrained(plan: PrefixPlan, open_model: Callable[[], PolicyModel], untrained: UntrainedModel) -> dict[str, Any]:
    """The trained policy's pictures through a wider one, whose actions mean nothing."""
    episodes = _recorded(plan, open_model(), UNTRAINED_EPISODES)
    with TemporaryDirectory(prefix="stillframe-untrained-") as folder:
        untrained.make(Path(folder))
        model = open_cpu_model(Path(folder), dtype="float32")
        return prefix_race(model, episodes, plan.forced_arms(UNTRAINED_REUSED))


def _recorded(plan: PrefixPlan, model: PolicyModel, episodes: int) -> list[list[Observed]]:
    """What a policy is asked about in its own episodes."""
    return record_episodes(model, episodes, plan.family.execute or model.info.chunk_horizon)
