"""`stillframe study methods --suite S`: play every cell, then write the report.

Knows the order and the folders; each part is its own module. What an arm has finished is not played again.
"""

from __future__ import annotations

from collections.abc import Sequence

from stillframe_lab.evaluation.jobs import Folders, JobReporter, checkpoint_digest, run_missing
from stillframe_lab.methods.arm_results import CellJob
from stillframe_lab.methods.cell import play_methods_cell
from stillframe_lab.methods.plan import MethodsPlan
from stillframe_lab.methods.report import write_methods
from stillframe_lab.methods.strip import write_strip


def run_methods(plan: MethodsPlan, folders: Folders, workers: int, reporter: JobReporter) -> Sequence[str]:
    """Do what is missing, then write the report into `folders.out`; the names of what is written."""
    folders.create()
    weights = checkpoint_digest(plan.checkpoint)
    jobs = [CellJob(cell, cell.origin(weights), folders.work / cell.name) for cell in plan.cells()]
    run_missing(play_methods_cell, jobs, workers, reporter)
    reporter.stage("what each arm does to the same frames")
    strip = f"{plan.name}-strip.png"
    write_strip(folders.out / strip, plan)
    reporter.stage("tables and charts")
    return write_methods(folders.out, plan, [job.result or {} for job in jobs], strip)
