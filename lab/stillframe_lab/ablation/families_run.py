"""`stillframe study families`: play every family's cells, time each policy, write one report.

Knows the order and the folders; each part is its own module. Finished results on disk are not made again.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

from stillframe_lab.ablation.cell import open_cpu_model, play_cell
from stillframe_lab.ablation.families import FamiliesPlan, Family, speed_origin
from stillframe_lab.ablation.families_report import FamilyResult, write_families
from stillframe_lab.ablation.plan import origin_of
from stillframe_lab.ablation.report import CellResult
from stillframe_lab.ablation.speed import TRAINED_EPISODES, family_speed
from stillframe_lab.evaluation.jobs import Folders, Job, JobReporter, checkpoint_digest, load_or_make, run_missing

MOST_EPISODES = 32  # of a race: policies that answer chunks are asked less often, and play more


def run_families(plan: FamiliesPlan, folders: Folders, workers: int, reporter: JobReporter) -> tuple[str, ...]:
    """Do what is missing, then write the report into `folders.out`; the names of what is written.

    Each family's results lie in a folder of its checkpoint's name: another family's are not touched.
    """
    folders.create()
    weights = {family.checkpoint: checkpoint_digest(family.checkpoint) for family in plan.families}
    jobs = [_jobs(plan, family, weights, folders.work) for family in plan.families]
    run_missing(play_cell, [job for own in jobs for job in own], workers, reporter)
    results = []
    for family, own in zip(plan.families, jobs, strict=True):
        played = [CellResult(job.cell, job.result or {}) for job in own]
        reporter.stage(f"{family.name}: every way in turn about the same pictures, on one thread")
        speed = load_or_make(
            folders.work / family.name / "speed.json",
            speed_origin(family, weights[family.checkpoint]),
            partial(_raced, family, played[0]),
        )
        results.append(FamilyResult(family.name, played, speed))
    reporter.stage("pictures and tables")
    return write_families(folders.out, plan, results)


def _jobs(plan: FamiliesPlan, family: Family, weights: Mapping[Path, str], work: Path) -> list[Job[Any]]:
    """A family's cells and their files."""
    folder = Folders(work / family.name, work).create().work
    return [Job(cell, origin_of(cell, weights), folder / f"{cell.name}.json") for cell in plan.cells(family)]


def _raced(family: Family, first: CellResult) -> dict[str, Any]:
    """A family's race. `first`: a cell that says how much of each chunk is played."""
    execute = first.result["contract"]["execute"]
    model = open_cpu_model(family.checkpoint, family.checkpoint_config, dtype="float32")
    return family_speed(model, family.reuse, execute, min(TRAINED_EPISODES * execute, MOST_EPISODES))
