"""What is played: cells of one mode and one network delay each, on the same seeds; where finished episodes are kept.

Knows no process. An episode is a line of JSON, written when it ends: what was played is not played again.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from stillframe.errors import ConfigError

EVAL = "eval"  # `stillframe eval` over HTTP: the scene waits for the policy
EPISODES_FILE, FIGURES_FILE = "episodes.jsonl", "figures.jsonl"


@dataclass(frozen=True)
class Cell:
    """One way to play."""

    name: str
    mode: str  # lockstep or realtime; eval: without a bridge
    delay_ms: float = 0.0  # of the network, there and back


CELLS = (
    Cell(EVAL, EVAL),
    Cell("lockstep", "lockstep"),
    Cell("realtime", "realtime"),
    Cell("lockstep-100ms", "lockstep", 100.0),
    Cell("realtime-100ms", "realtime", 100.0),
)


@dataclass(frozen=True)
class Played:
    """One episode, as its line has it."""

    cell: str
    seed: int
    instruction: str
    success: bool
    wrong_object: bool
    steps: int  # control periods of the world, from the first motion on
    answers: int
    seconds: float
    reason: str  # how it ended
    fault: bool = False


class Results:
    """The folder of a run that may be continued."""

    def __init__(self, folder: Path):
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder

    def add(self, played: Played) -> None:
        """Append an episode."""
        self._append(EPISODES_FILE, asdict(played))

    def add_figures(self, cell: str, figures: dict[str, Any]) -> None:
        """Append what was measured while some episodes of a cell were played."""
        self._append(FIGURES_FILE, {"cell": cell, **figures})

    def episodes(self, cell: str) -> list[Played]:
        """A cell's episodes."""
        return [Played(**line) for line in self._lines(EPISODES_FILE) if line["cell"] == cell]

    def figures(self, cell: str) -> list[dict[str, Any]]:
        """A cell's figures."""
        return [line for line in self._lines(FIGURES_FILE) if line["cell"] == cell]

    def missing(self, cell: str, seeds: Sequence[int]) -> list[int]:
        """The seeds that were not played yet."""
        done = {episode.seed for episode in self.episodes(cell)}
        return [seed for seed in seeds if seed not in done]

    def _append(self, name: str, line: dict[str, Any]) -> None:
        with (self.folder / name).open("a", encoding="utf-8") as out:
            out.write(json.dumps(line) + "\n")

    def _lines(self, name: str) -> Iterator[dict[str, Any]]:
        file = self.folder / name
        for number, line in enumerate(file.read_text(encoding="utf-8").splitlines() if file.exists() else (), 1):
            try:
                yield json.loads(line)
            except ValueError as error:
                raise ConfigError(f"{file}, line {number} is cut off: delete that line and run again") from error


def cells_named(names: Sequence[str]) -> list[Cell]:
    """The cells of these names; none given: all. Raises ConfigError."""
    known = {cell.name: cell for cell in CELLS}
    unknown = [name for name in names if name not in known]
    if unknown:
        raise ConfigError(f"--cell {unknown[0]}: expected some of {', '.join(known)}")
    return [known[name] for name in names] or list(CELLS)
