"""Progress bars for evaluation and training. Knows a terminal; nothing of what it counts."""

from __future__ import annotations

from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from stillframe.train.cloning import Progress as Trained
from stillframe_client.sim.rollout import Episode


class _Bar:
    """One line on stderr: what, a bar, how many, a note, how long still."""

    def __init__(self, what: str, total: int):
        columns = (
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[note]}"),
        )
        self._progress = Progress(*columns, TimeRemainingColumn(), console=Console(stderr=True))
        self._task = self._progress.add_task(what, total=total, note="")

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._progress.stop()


class EpisodeBar(_Bar):
    """Counts episodes and successes."""

    _wins = 0

    def watch(self, episode: Episode) -> None:
        """One more episode."""
        self._wins += episode.success
        self._progress.update(self._task, advance=1, note=f"{self._wins} done")


class TrainingBar(_Bar):
    """Counts optimiser steps; a stage's line stays above the bar. Implements train.pipeline.Reporter."""

    def __init__(self, steps: int):
        super().__init__("training", steps)

    def stage(self, line: str) -> None:
        """A stage begins."""
        self._progress.console.print(line)

    def progress(self, trained: Trained) -> None:
        """Where the training is."""
        note = f"loss {trained.loss:.3f}  xyz {trained.xyz_error:.3f}  {trained.images_per_s:.0f} img/s"
        self._progress.update(self._task, completed=trained.step, note=note)
