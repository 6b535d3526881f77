"""Progress bars of calibration and load tests. Knows a terminal; nothing of what it counts."""

from __future__ import annotations

from collections.abc import Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Self

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

if TYPE_CHECKING:
    from stillframe.tools.loadtest.load import Load
    from stillframe.tools.loadtest.senders import SenderStats


class ProgressBar:
    """One line on stderr: description, bar, count, note, time left. Nothing is drawn where stderr is no terminal."""

    def __init__(self, what: str, total: int):
        columns = (
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[note]}"),
        )
        console = Console(stderr=True)
        self._progress = Progress(*columns, TimeRemainingColumn(), console=console, disable=not console.is_terminal)
        self._task = self._progress.add_task(what, total=total, note="")

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._progress.stop()


class LoadBar(ProgressBar):
    """Counts frames that are due. Implements loadtest.run.LoadReporter."""

    def __init__(self) -> None:
        super().__init__("", total=0)

    def begin(self, load: Load) -> None:
        """A load begins."""
        flood = f" + {load.flood} flooding" if load.flood else ""
        what = f"{load.robots} robots, {load.hz:g} Hz{flood}"
        self._deadline_s = load.deadline_ms / 1e3
        self._progress.reset(self._task, description=what, total=load.robots * load.frames, note="")

    def look(self, robots: Sequence[SenderStats]) -> None:
        """Update the counts."""
        due, answered = sum(robot.due for robot in robots), sum(robot.answered for robot in robots)
        within = sum(robot.within(self._deadline_s) for robot in robots)
        problems = sum(robot.problems.total() for robot in robots)
        note = f"{within} of {answered} in time" + (f", {problems} problems" if problems else "")
        self._progress.update(self._task, completed=due, note=note)


class StageBar(ProgressBar):
    """Counts the steps of one stage after another. Implements calibration.search.CalibrationReporter."""

    def __init__(self) -> None:
        super().__init__("", total=0)

    def stage(self, name: str, steps: int) -> None:
        """The next stage begins."""
        self._progress.reset(self._task, description=name, total=steps)

    def advance(self) -> None:
        """One step of it is done."""
        self._progress.advance(self._task)

    def say(self, line: str) -> None:
        """Print a line above the bar."""
        self._progress.console.print(line, markup=False, highlight=False, soft_wrap=True)
