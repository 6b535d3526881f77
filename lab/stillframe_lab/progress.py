"""Progress bars of evaluation, benchmarks and training. Knows a terminal; nothing of what it counts."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from stillframe.cli.progress import ProgressBar

if TYPE_CHECKING:  # what is counted may need an extra that the counting does not
    from stillframe_lab.bridge.cells import Played
    from stillframe_lab.train.cloning import Progress as Trained
    from stillframe_lab.train.history.gate_training import GateProgress
    from stillframe_lab.train.history.joint_training import JointProgress
    from stillframe_lab.train.history.policy_training import MemoryProgress


class Finished(Protocol):
    """An episode of any simulator."""

    @property
    def success(self) -> bool:
        """Whether the task was done."""
        ...


class EpisodeBar(ProgressBar):
    """Counts episodes and successes."""

    _wins = 0

    def watch(self, episode: Finished) -> None:
        """One more episode."""
        self._wins += episode.success
        self._progress.update(self._task, advance=1, note=f"{self._wins} done")


class BridgeBar(ProgressBar):
    """Counts the bridge's episodes, cell by cell. Implements bridge.run.Watch."""

    def __init__(self) -> None:
        super().__init__("", total=0)

    def expect(self, cell: str, episodes: int) -> None:
        """A cell begins."""
        self._wins = 0
        self._progress.reset(self._task, description=cell, total=episodes, note="")

    def played(self, episode: Played) -> None:
        """One more episode."""
        self._wins += episode.success
        self._progress.update(self._task, advance=1, note=f"{self._wins} done")


class AblationBar(ProgressBar):
    """Counts cells; a stage's line stays above the bar. Implements evaluation.jobs.JobReporter."""

    def __init__(self) -> None:
        super().__init__("cells", 0)

    def stage(self, line: str) -> None:
        """A stage begins."""
        self._progress.console.print(line)

    def expect(self, cells: int) -> None:
        """How many cells are missing."""
        self._progress.update(self._task, total=cells)

    def played(self, cell: str) -> None:
        """A cell is finished."""
        self._progress.update(self._task, advance=1, note=cell)


class TrainingBar(ProgressBar):
    """Counts optimiser steps; a stage's line stays above the bar. Implements train.pipeline.TrainingReporter."""

    def __init__(self, steps: int):
        super().__init__("training", steps)

    def stage(self, line: str) -> None:
        """A stage begins."""
        self._progress.console.print(line)

    def progress(self, trained: Trained) -> None:
        """A line of the training log."""
        note = f"loss {trained.loss:.3f}  xyz {trained.xyz_error:.3f}  {trained.images_per_s:.0f} img/s"
        self._progress.update(self._task, completed=trained.step, note=note)


class MemoryBar(ProgressBar):
    """Counts the steps of one stage after another. Implements train.history.pipeline.HistoryReporter."""

    def __init__(self) -> None:
        super().__init__("", total=0)

    def stage(self, line: str, steps: int) -> None:
        """A stage begins."""
        self._progress.reset(self._task, description=line, total=steps, note="")

    def policy(self, trained: MemoryProgress) -> None:
        """A line of the cloning log."""
        note = f"loss {trained.loss:.3f}  xyz {trained.xyz_error:.3f}  cues {trained.colour_hits:.2f}"
        self._progress.update(self._task, completed=trained.step, note=note)

    def episodes(self, played: int) -> None:
        """How many episodes or scenes are done."""
        self._progress.update(self._task, completed=played)

    def gate(self, trained: GateProgress) -> None:
        """A line of the gate's log."""
        off = trained.held_out
        note = f"held out: worthy off by {off.worthy:.2f}, idle by {off.idle:.2f}"
        self._progress.update(self._task, completed=trained.step, note=note)

    def together(self, trained: JointProgress) -> None:
        """A line of the joint fine-tuning log."""
        means = trained.means
        note = f"xyz {means.xyz_error:.3f}, with all {means.whole_xyz_error:.3f}  KL {means.parted:.3f}"
        self._progress.update(self._task, completed=trained.step, note=note)


class RaceBar(ProgressBar):
    """Counts the rounds of one race after another. Implements latency.race.Watch."""

    def __init__(self) -> None:
        super().__init__("", total=0)
        self._stage = ""

    def look(self, stage: str, done: int, steps: int) -> None:
        """Rounds done of a stage."""
        if stage != self._stage:
            self._stage = stage
            self._progress.reset(self._task, description=stage, total=steps)
        self._progress.update(self._task, completed=done)
