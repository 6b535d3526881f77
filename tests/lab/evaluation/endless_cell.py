"""Runs one cell that never ends in a worker, which writes its process id: `python endless_cell.py FILE`."""

from __future__ import annotations

import os
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from stillframe_lab.evaluation.jobs import Job, run_missing


@dataclass(frozen=True)
class Cell:
    """A cell that is a name."""

    name: str


def play(cell: Cell, origin: Any, file: Path) -> None:  # noqa: ARG001 (what is asked of every `play`)
    """Say who plays, and go on for ever."""
    file.with_suffix(".new").write_text(str(os.getpid()))
    file.with_suffix(".new").rename(file)
    while True:
        time.sleep(60)


if __name__ == "__main__":
    reporter: Any = SimpleNamespace(expect=print, played=print, stage=print)
    run_missing(play, [Job(Cell("endless"), {}, Path(sys.argv[1]))], 1, reporter)
