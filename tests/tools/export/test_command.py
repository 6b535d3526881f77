"""`stillframe export` as it is typed."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from stillframe.recording.frame import RecordedFrame

pytest.importorskip("mcap", reason="needs the extra export-mcap")


def test_the_command_prints_what_it_wrote(
    typed: Callable[..., tuple[int, str, str]],
    frames: list[RecordedFrame],
    stored: Callable[..., Path],
    tmp_path: Path,
) -> None:
    """A path a line; of one episode's folder, that episode."""
    recording = stored(tmp_path / "in", frames)
    all_of_it, everything, _ = typed("export", recording, "--to", "mcap", "--out", tmp_path / "all")
    one = sorted(recording.iterdir())[1]
    status, single, _ = typed("export", one, "--to", "mcap", "--out", tmp_path / "one")

    assert (all_of_it, status) == (0, 0)
    assert [Path(path).is_file() for path in everything.split()] == [True, True]
    assert [Path(path).stem for path in single.split()] == [one.name]


def test_a_folder_that_is_no_recording_is_named(typed: Callable[..., tuple[int, str, str]], tmp_path: Path) -> None:
    """In one line, and nothing is made."""
    status, _, complaint = typed("export", tmp_path, "--to", "mcap", "--out", tmp_path / "out")

    assert status == 1
    assert f"{tmp_path} holds no episode; record some" in complaint
    assert not (tmp_path / "out").exists()
