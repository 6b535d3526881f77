"""Progress bars for evaluation, training and calibration. Knows a terminal; nothing of what it counts."""

from __future__ import annotations

from collections.abc import Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Self

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

if TYPE_CHECKING:  # what is counted may need an extra that the counting does not
    from stillframe.bench.loadtest.load import Load
    from stillframe.bench.loadtest.tally import Tally
    from stillframe.train.cloning import Progress as Trained
    from stillframe.train.memory.cloning import MemoryProgress
    from stillframe.train.memory.gating import GateProgress
    from stillframe.train.memory.joining import JointProgress
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


class AblationBar(_Bar):
    """Counts cells; a stage's line stays above the bar. Implements bench.cells.Reporter."""

    def __init__(self) -> None:
        super().__init__("cells", 0)

    def stage(self, line: str) -> None:
        """A stage begins."""
        self._progress.console.print(line)

    def expect(self, cells: int) -> None:
        """So many cells are still to be played."""
        self._progress.update(self._task, total=cells)

    def played(self, cell: str) -> None:
        """One more is."""
        self._progress.update(self._task, advance=1, note=cell)


class LoadBar(_Bar):
    """Counts the frames of a load whose time has come. Implements bench.loadtest.Reporter."""

    def __init__(self) -> None:
        super().__init__("", total=0)

    def begin(self, load: Load) -> None:
        """A load begins."""
        flood = f" + {load.flood} flooding" if load.flood else ""
        what = f"{load.robots} robots, {load.hz:g} Hz{flood}"
        self._deadline_s = load.deadline_ms / 1e3
        self._progress.reset(self._task, description=what, total=load.robots * load.frames, note="")

    def look(self, robots: Sequence[Tally]) -> None:
        """How it stands."""
        due, answered = sum(robot.due for robot in robots), sum(robot.answered for robot in robots)
        within = sum(robot.within(self._deadline_s) for robot in robots)
        problems = sum(robot.problems.total() for robot in robots)
        note = f"{within} of {answered} in time" + (f", {problems} problems" if problems else "")
        self._progress.update(self._task, completed=due, note=note)


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


class MemoryBar(_Bar):
    """Counts the steps of one stage after another. Implements train.memory.pipeline.Reporter."""

    def __init__(self) -> None:
        super().__init__("", total=0)

    def stage(self, line: str, steps: int) -> None:
        """A stage begins."""
        self._progress.reset(self._task, description=line, total=steps, note="")

    def policy(self, trained: MemoryProgress) -> None:
        """Where the cloning is."""
        note = f"loss {trained.loss:.3f}  xyz {trained.xyz_error:.3f}  cues {trained.colour_hits:.2f}"
        self._progress.update(self._task, completed=trained.step, note=note)

    def episodes(self, played: int) -> None:
        """How many are."""
        self._progress.update(self._task, completed=played)

    def gate(self, trained: GateProgress) -> None:
        """Where the gate is."""
        off = trained.held_out
        note = f"held out: worthy off by {off.worthy:.2f}, idle by {off.idle:.2f}"
        self._progress.update(self._task, completed=trained.step, note=note)

    def together(self, trained: JointProgress) -> None:
        """Where the fine-tuning of both is."""
        means = trained.means
        note = f"xyz {means.xyz_error:.3f}, with all {means.whole_xyz_error:.3f}  KL {means.parted:.3f}"
        self._progress.update(self._task, completed=trained.step, note=note)


class StageBar(_Bar):
    """Counts the steps of one stage after another. Implements bench.calibrate.Reporter."""

    def __init__(self) -> None:
        super().__init__("", total=0)

    def stage(self, name: str, steps: int) -> None:
        """The next stage begins."""
        self._progress.reset(self._task, description=name, total=steps)

    def advance(self) -> None:
        """One step of it is done."""
        self._progress.advance(self._task)

    def say(self, line: str) -> None:
        """A line above the bar."""
        self._progress.console.print(line, markup=False, highlight=False, soft_wrap=True)


class RaceBar(_Bar):
    """Counts the rounds of one race after another. Implements bench.latency.contest.Watch."""

    def __init__(self) -> None:
        super().__init__("", total=0)
        self._stage = ""

    def look(self, stage: str, done: int, steps: int) -> None:
        """How it stands."""
        if stage != self._stage:
            self._stage = stage
            self._progress.reset(self._task, description=stage, total=steps)
        self._progress.update(self._task, completed=done)
