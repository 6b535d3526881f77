"""`stillframe export` as it is typed."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from stillframe import cli
from stillframe.recording.frame import RecordedFrame

pytest.importorskip("mcap", reason="needs the extra export-mcap")


def typed(monkeypatch: pytest.MonkeyPatch, *words: object) -> int:
    """The exit status of a command."""
    monkeypatch.setattr(sys, "argv", ["stillframe", *map(str, words)])
    try:
        cli.main()
    except SystemExit as end:
        return int(end.code or 0)
    return 0


def test_the_command_prints_what_it_wrote(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    frames: list[RecordedFrame],
    stored: Callable[..., Path],
    tmp_path: Path,
) -> None:
    """A path a line; of one episode's folder, that episode."""
    recording = stored(tmp_path / "in", frames)
    all_of_it = typed(monkeypatch, "export", recording, "--to", "mcap", "--out", tmp_path / "all")
    everything = capsys.readouterr().out.split()
    one = sorted(recording.iterdir())[1]
    status = typed(monkeypatch, "export", one, "--to", "mcap", "--out", tmp_path / "one")
    single = capsys.readouterr().out.split()

    assert (all_of_it, status) == (0, 0)
    assert [Path(path).is_file() for path in everything] == [True, True]
    assert [Path(path).stem for path in single] == [one.name]


def test_a_folder_that_is_no_recording_is_named(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """In one line, and nothing is made."""
    status = typed(monkeypatch, "export", tmp_path, "--to", "mcap", "--out", tmp_path / "out")

    assert status == 1
    assert f"{tmp_path} holds no episode; record some" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
