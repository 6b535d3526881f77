"""`stillframe study ablation`: play every cell, time the models, draw the filmstrip, write the report.

Knows the order and the folders; each part is its own module. Finished results on disk are not made again.
"""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from stillframe_lab.ablation.cell import play_cell
from stillframe_lab.ablation.filmstrip import write_strip
from stillframe_lab.ablation.plan import AblationPlan, origin_of
from stillframe_lab.ablation.report import CellResult, write_report
from stillframe_lab.ablation.speed import UntrainedModel, trained_speed, untrained_speed
from stillframe_lab.evaluation.jobs import Folders, Job, JobReporter, checkpoint_digest, load_or_make, run_missing


def run_ablation(
    plan: AblationPlan, folders: Folders, workers: int, untrained: UntrainedModel, reporter: JobReporter
) -> None:
    """Do what is missing, then write results.json, README.md and pictures into `folders.out`."""
    folders.create()
    played = _play_all(plan, folders.work, workers, reporter)
    reporter.stage("speed: every way in turn about the same pictures, on one thread")
    speeds = {
        plan.checkpoint.name: load_or_make(
            folders.work / "speed-trained.json", _speed_origin(plan), lambda: trained_speed(plan)
        ),
        untrained.name: load_or_make(
            folders.work / "speed-untrained.json",
            {**_speed_origin(plan), "untrained": untrained.name},
            lambda: _untrained(plan, untrained),
        ),
    }
    reporter.stage("pictures and tables")
    write_strip(folders.out / "strip.png", plan)
    write_report(folders.out, plan, played, speeds)


def _play_all(plan: AblationPlan, work: Path, workers: int, reporter: JobReporter) -> list[CellResult]:
    """Every cell's result, in the plan's order; those that are missing are played."""
    weights = {condition.checkpoint: checkpoint_digest(condition.checkpoint) for condition in plan.conditions()}
    jobs = [Job(cell, origin_of(cell, weights), work / f"{cell.name}.json") for cell in plan.cells()]
    run_missing(play_cell, jobs, workers, reporter)
    return [CellResult(job.cell, job.result or {}) for job in jobs]


def _untrained(plan: AblationPlan, untrained: UntrainedModel) -> dict[str, Any]:
    with TemporaryDirectory(prefix="stillframe-untrained-") as folder:
        untrained.make(Path(folder))
        return untrained_speed(plan, Path(folder))


def _speed_origin(plan: AblationPlan) -> dict[str, Any]:
    """All that a race depends on, as JSON."""
    return {"reuse": json.loads(json.dumps(asdict(plan.reuse))), "weights": checkpoint_digest(plan.checkpoint)}
