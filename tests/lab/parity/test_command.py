from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import typer

from stillframe_lab.cli.parity import parity_command

FolderOf = Callable[[str], Path]
Record = Callable[..., Path]
Run = Callable[..., tuple[int, str]]  # words -> status, stdout


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """`stillframe parity ...`, by an application of its own."""

    def type_in(*words: object) -> tuple[int, str]:
        monkeypatch.setenv("COLUMNS", "80")
        monkeypatch.setattr(sys, "argv", ["parity", *map(str, words)])
        app = typer.Typer(rich_markup_mode=None, pretty_exceptions_enable=False)
        app.command()(parity_command)
        capsys.readouterr()
        with pytest.raises(SystemExit) as end:
            app()
        return int(end.value.code or 0), capsys.readouterr().out

    return type_in


@pytest.mark.parametrize("family", ["openvla", "openvla_oft", "cogact"])
def test_a_line_a_stage(folder_of: FolderOf, record: Record, run: Run, family: str) -> None:
    """Cases, worst, tolerance, ok, within 80 columns; status 0."""
    status, out = run(folder_of(family), record(family))
    lines = out.splitlines()

    assert status == 0
    assert max(map(len, lines)) <= 80
    assert lines[0].split()[:4] == ["stage", "cases", "worst", "tolerance"]
    assert "within tolerance" in lines[-1]
    assert any(line.startswith("ids ") and " ok " in line for line in lines)


def test_the_stage_to_look_at_is_named(
    folder_of: FolderOf, record: Record, run: Run, nudge: Callable[[Path, str], None], tmp_path: Path
) -> None:
    """Status 1; JSON has the same."""
    folder = folder_of("openvla")
    nudge(folder, "projector.fc1.weight")
    status, out = run(folder, record("openvla"), "--json", tmp_path / "made" / "parity.json")
    document = json.loads((tmp_path / "made" / "parity.json").read_text())

    assert status == 1
    assert "over from stage projector on: 1 of 1 cases, worst f0" in out
    assert (document["status"], document["first_over"], document["family"]) == (1, "projector", "openvla")
    stages = {each["stage"]: each for each in document["stages"]}
    assert stages["vision"]["verdict"] == "ok"
    assert stages["projector"]["over"] == ["f0"]
    assert stages["projector"]["worst"] > stages["projector"]["tolerance"] == 1e-4


def test_nothing_to_compare_says_whose_the_record_is(folder_of: FolderOf, record: Record, run: Run) -> None:
    """Status 2."""
    status, out = run(folder_of("openvla"), record("cogact"))

    assert status == 2
    said = " ".join(out.split())
    assert "nothing could be compared: the checkpoint is of openvla; its keys are those of cogact" in said


def test_what_is_not_known_and_what_is_left_out_are_listed(folder_of: FolderOf, record: Record, run: Run) -> None:
    """The first few, counted."""
    changes = {f"weather/{at}": np.zeros(1) for at in range(7)} | {"noise": None}
    status, out = run(folder_of("cogact"), record("cogact", changes))
    said = " ".join(out.split())

    assert status == 0
    assert "keys not known: 7: weather/0, weather/1, weather/2, weather/3, weather/4 and 2 more" in said
    assert "left out: f0_i0_cfg1.5_ddim10_n0: the file has no noise" in said
    assert "5 stages within tolerance; 1 left out" in said
