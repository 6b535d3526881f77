"""`stillframe eval --ablation`: plays every cell, times the models, takes the pictures, and has the report written.

Knows the order and the folders; each part is its own room. Whatever is finished on disk is not done again.
"""

from __future__ import annotations

import json
import multiprocessing
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict, dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Protocol

from stillframe.bench.ablation.cell import keep_result, kept_result, play_cell
from stillframe.bench.ablation.plan import Cell, Plan, digest_of, origin_of
from stillframe.bench.ablation.report import Played, write_report
from stillframe.bench.ablation.speed import Untrained, trained_speed, untrained_speed
from stillframe.bench.ablation.strip import write_strip
from stillframe.errors import ConfigError


class Reporter(Protocol):
    """Where progress goes."""

    def stage(self, line: str) -> None:
        """A stage begins."""
        ...

    def expect(self, cells: int) -> None:
        """So many cells are still to be played."""
        ...

    def played(self, cell: str) -> None:
        """One more is."""
        ...


@dataclass(frozen=True)
class Folders:
    """Where results grow, and where the report lies when it is done."""

    work: Path
    out: Path

    def made(self) -> Folders:
        """Both there, before hours are spent. Raises ConfigError."""
        for folder in (self.work, self.out):
            try:
                folder.mkdir(parents=True, exist_ok=True)
            except OSError as error:
                raise ConfigError(f"cannot make {folder}: {error.strerror}; choose another") from error
        return self


def run_ablation(plan: Plan, folders: Folders, workers: int, untrained: Untrained, reporter: Reporter) -> None:
    """Do what is missing, then write results.json, README.md and pictures into `folders.out`."""
    folders.made()
    played = _play_all(plan, folders.work, workers, reporter)
    reporter.stage("speed: every way in turn about the same pictures, on one thread")
    speeds = {
        plan.checkpoint.name: _kept_or(
            folders.work / "speed-trained.json", _speed_origin(plan), lambda: trained_speed(plan)
        ),
        untrained.name: _kept_or(
            folders.work / "speed-untrained.json",
            {**_speed_origin(plan), "untrained": untrained.name},
            lambda: _untrained(plan, untrained),
        ),
    }
    reporter.stage("pictures and tables")
    write_strip(folders.out / "strip.png", plan)
    write_report(folders.out, plan, played, speeds)


def _play_all(plan: Plan, work: Path, workers: int, reporter: Reporter) -> list[Played]:
    """Every cell's result, in the plan's order; those that are missing are played, in processes of their own."""
    weights = {condition.checkpoint: digest_of(condition.checkpoint) for condition in plan.conditions()}
    jobs = [(cell, origin_of(cell, weights), work / f"{cell.name}.json") for cell in plan.cells()]
    missing = [job for job in jobs if kept_result(job[2], job[1]) is None]
    reporter.expect(len(missing))
    _in_processes(missing, workers, reporter)
    return [Played(cell, kept_result(file, origin) or {}) for cell, origin, file in jobs]


def _in_processes(jobs: Sequence[tuple[Cell, dict[str, Any], Path]], workers: int, reporter: Reporter) -> None:
    """Each worker has a GL context and a torch of its own. The first failure ends it all; finished cells are kept."""
    if not jobs:
        return
    with ProcessPoolExecutor(workers, mp_context=multiprocessing.get_context("spawn")) as pool:
        names = {pool.submit(play_cell, *job): job[0].name for job in jobs}
        try:
            for future in as_completed(names):
                future.result()
                reporter.played(names[future])
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise


def _untrained(plan: Plan, untrained: Untrained) -> dict[str, Any]:
    with TemporaryDirectory(prefix="stillframe-untrained-") as folder:
        untrained.make(Path(folder))
        return untrained_speed(plan, Path(folder))


def _speed_origin(plan: Plan) -> dict[str, Any]:
    """What a race depends on, as JSON has it."""
    return {"reuse": json.loads(json.dumps(asdict(plan.reuse))), "weights": digest_of(plan.checkpoint)}


def _kept_or(file: Path, origin: dict[str, Any], make: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """What the file holds if it was made as `origin` says, else what `make` makes, which the file then holds."""
    result = kept_result(file, origin)
    if result is None:
        result = make()
        keep_result(file, origin, result)
    return result
