from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from stillframe.reuse.settings import ReuseSettings
from stillframe_lab.libero.bench import LiberoBench
from stillframe_lab.methods.arm_results import TOGETHER, CellJob, save_arms
from stillframe_lab.methods.plan import MethodsCell, MethodsPlan

OFF, PAPER = ReuseSettings(mode="off"), ReuseSettings(mode="paper")


@pytest.fixture
def job(tmp_path: Path) -> CellJob:
    """A cell of two arms, nothing of which was played."""
    arms = {"off": OFF, "static + relevance": PAPER}
    plan = MethodsPlan(LiberoBench("libero_spatial", "fast"), (2,), 5, 0, arms, Path("policy"), 4, None)
    return job_of(next(plan.cells()), tmp_path)


def job_of(cell: MethodsCell, folder: Path) -> CellJob:
    """With weights that stay."""
    return CellJob(cell, cell.origin("digest"), folder / cell.name)


def played(job: CellJob, **wins: int) -> None:
    """Arms were played in turn, with so many episodes won."""
    save_arms(job.cell, job.origin, job.file, {name.replace("_", " "): {"wins": own} for name, own in wins.items()})


def changed(job: CellJob, **arms: ReuseSettings) -> CellJob:
    """The same cell of a plan with other arms."""
    return job_of(replace(job.cell, plan=replace(job.cell.plan, arms=arms)), job.file.parent)


def test_a_cell_has_a_result_once_every_arm_has(job: CellJob) -> None:
    """By arm, in the plan's order, each with the arms of its turn."""
    assert job.result is None
    save_arms(job.cell, job.origin, job.file, {"static + relevance": {"wins": 3}})
    assert job.result is None
    played(job, off=5)

    assert job.result == {
        "off": {"wins": 5, TOGETHER: ["off"]},
        "static + relevance": {"wins": 3, TOGETHER: ["static + relevance"]},
    }
    assert [*job.result] == ["off", "static + relevance"]


def test_what_is_not_wanted_is_not_missing(job: CellJob) -> None:
    """Nor left out of the result where it was played before."""
    wanted = job_of(replace(job.cell, plan=replace(job.cell.plan, wanted=("off",))), job.file.parent)
    played(job, off=5)

    assert job.result is None
    assert wanted.result is not None
    assert [*wanted.result] == ["off"]
    save_arms(job.cell, job.origin, job.file, {"static + relevance": {"wins": 3}})
    assert [*wanted.result] == ["off", "static + relevance"]


def test_another_arm_leaves_what_is_there(job: CellJob) -> None:
    """It alone is missing; fewer arms miss nothing."""
    two = changed(job, off=OFF, paper=PAPER)
    played(two, off=5, paper=4)
    three = changed(job, off=OFF, paper=PAPER, adaptive=ReuseSettings(mode="adaptive"))

    assert three.result is None
    played(three, adaptive=2)
    assert three.result is not None
    assert [(name, own["wins"], own[TOGETHER]) for name, own in three.result.items()] == [
        ("off", 5, ["off", "paper"]),
        ("paper", 4, ["off", "paper"]),
        ("adaptive", 2, ["adaptive"]),
    ]
    assert changed(job, paper=PAPER).result is not None


def test_an_arm_with_other_settings_is_missing(job: CellJob) -> None:
    """Its result under the old ones does not count; the others' does."""
    two = changed(job, off=OFF, paper=PAPER)
    played(two, off=5, paper=4)
    other = changed(job, off=OFF, paper=replace(PAPER, drift_budget=0.5))

    assert other.result is None
    played(other, paper=1)
    assert other.result is not None
    assert {name: own["wins"] for name, own in other.result.items()} == {"off": 5, "paper": 1}
