"""Results of a cell on disk, one file an arm: another arm costs its own episodes, and leaves what is there.

Knows files and origins; plays nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from stillframe.reuse.settings import ReuseSettings
from stillframe_lab.evaluation.jobs import Job, Result, load_result, save_result
from stillframe_lab.methods.plan import MethodsCell, arm_origin

TOGETHER = "played_with"  # the arms that were played in turn with one, itself among them: their times compare


class CellJob(Job[MethodsCell]):
    """A cell, what each of its arms' results depends on beside the arm, and the folder of their files."""

    @property
    def result(self) -> Result | None:
        """Arm -> its figures, of all that are finished; None as long as one is missing that is wanted."""
        found = finished_arms(self.cell, self.origin, self.file)
        return found if found.keys() >= {*self.cell.plan.to_play} else None


def finished_arms(cell: MethodsCell, origin: Mapping[str, Any], folder: Path) -> dict[str, Result]:
    """Arm -> its figures, of those arms of a cell that were played with these settings; in the plan's order."""
    found = {name: load_result(_file(folder, name), arm_origin(origin, reuse)) for name, reuse in _arms(cell)}
    return {name: result for name, result in found.items() if result is not None}


def save_arms(
    cell: MethodsCell, origin: Mapping[str, Any], folder: Path, played: Mapping[str, Mapping[str, Any]]
) -> None:
    """Keep the figures of arms that were played in turn, and that they were."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, reuse in _arms(cell):
        if name in played:
            result = {**played[name], TOGETHER: sorted(played)}
            save_result(_file(folder, name), arm_origin(origin, reuse), result)


def _arms(cell: MethodsCell) -> list[tuple[str, ReuseSettings]]:
    return [*cell.plan.arms.items()]


def _file(folder: Path, arm: str) -> Path:
    """Of one arm's result."""
    return folder / f"{arm.replace(' + ', '-and-').replace(' ', '-')}.json"
