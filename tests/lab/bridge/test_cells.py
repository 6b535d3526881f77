"""What is played, and what is kept of it."""

from __future__ import annotations

from pathlib import Path

import pytest

from stillframe.errors import ConfigError
from stillframe_lab.bridge.cells import CELLS, EPISODES_FILE, Played, Results, cells_named

EPISODE = Played("lockstep", 7, "pick up the red cube", True, False, 30, 25, 3.5, "success")  # noqa: FBT003


def test_an_episode_that_was_played_is_not_missing(tmp_path: Path) -> None:
    """A run that is continued plays the other seeds of that cell, and all of the other cells."""
    results = Results(tmp_path / "run")
    results.add(EPISODE)
    again = Results(tmp_path / "run")

    assert again.missing("lockstep", range(6, 9)) == [6, 8]
    assert again.missing("realtime", range(6, 9)) == [6, 7, 8]
    assert again.episodes("lockstep") == [EPISODE]


def test_figures_are_kept_by_cell(tmp_path: Path) -> None:
    """Batches of one cell are all there, and no other's."""
    results = Results(tmp_path)
    results.add_figures("lockstep", {"late_ms": [1.0]})
    results.add_figures("realtime", {"late_ms": [2.0]})
    results.add_figures("lockstep", {"late_ms": [3.0]})

    assert [figures["late_ms"] for figures in results.figures("lockstep")] == [[1.0], [3.0]]


def test_a_line_that_was_cut_off_is_named(tmp_path: Path) -> None:
    """The error names file, line and what to do."""
    results = Results(tmp_path)
    results.add(EPISODE)
    with (tmp_path / EPISODES_FILE).open("a") as out:
        out.write('{"cell": "lock')

    with pytest.raises(ConfigError, match="line 2 is cut off: delete that line"):
        results.episodes("lockstep")


def test_cells_are_chosen_by_name() -> None:
    """No name means all; an unknown one is refused with the names there are."""
    assert cells_named([]) == list(CELLS)
    assert [cell.mode for cell in cells_named(["realtime-100ms"])] == ["realtime"]
    with pytest.raises(ConfigError, match="expected some of eval, lockstep"):
        cells_named(["turbo"])


def test_every_cell_has_a_name_of_its_own() -> None:
    """Episodes are kept by cell and seed."""
    assert len({cell.name for cell in CELLS}) == len(CELLS)
