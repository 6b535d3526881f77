from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from stillframe_client.jaco2.bridge.run import REFUSED, new_folder, run
from stillframe_client.jaco2.config import ConfigError
from stillframe_client.jaco2.settings import BridgeSettings

Chosen = Callable[..., BridgeSettings]


def test_without_words_nothing_is_run(chosen: Chosen, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A run needs an instruction; no folder is made."""
    assert run(chosen(record={"folder": str(tmp_path / "runs")}), dry=True) == REFUSED
    assert "policy.instruction is empty" in capsys.readouterr().out
    assert not (tmp_path / "runs").exists()


def test_a_first_run_at_full_speed_is_refused(
    chosen: Chosen, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """On a real arm; a dry run of the same settings is not refused for it."""
    settings = chosen(
        policy={"instruction": "move"},
        arm={"kind": "rosbridge"},
        limits={"speed": 1.0},
        record={"folder": str(tmp_path / "runs")},
    )

    assert run(settings, dry=False) == REFUSED
    assert "--speed 0.25" in capsys.readouterr().out
    assert not (tmp_path / "runs").exists()


def test_a_folder_that_cannot_be_made_is_refused(
    chosen: Chosen, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """By the setting's name."""
    (tmp_path / "file").write_text("")

    assert run(chosen(policy={"instruction": "move"}, record={"folder": str(tmp_path / "file")}), dry=True) == REFUSED
    assert "record.folder is" in capsys.readouterr().out


def test_each_run_has_a_folder_of_its_own(tmp_path: Path) -> None:
    """Those of one second are numbered; a thousand of them are refused."""
    folders = [new_folder(tmp_path) for _ in range(50)]

    assert len({*folders}) == 50
    assert all(folder.is_dir() for folder in folders)


def test_a_clock_that_stands_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not for ever the next number."""
    monkeypatch.setattr("time.strftime", lambda _: "20260101-000000")
    for number in range(1000):
        (tmp_path / ("20260101-000000" + (f"-{number}" if number else ""))).mkdir()

    with pytest.raises(ConfigError, match="a thousand runs"):
        new_folder(tmp_path)
