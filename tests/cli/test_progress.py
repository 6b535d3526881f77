"""Progress bars of long commands."""

from __future__ import annotations

import io
import sys

import pytest

from stillframe.cli.progress import StageBar


class Screen(io.StringIO):
    """Standard error that is a terminal."""

    def isatty(self) -> bool:
        """What rich asks."""
        return True


def count() -> None:
    """Two steps, with a line said in between."""
    with StageBar() as bar:
        bar.stage("replay", 2)
        bar.advance()
        bar.say("one frame was left out [of 2]")
        bar.advance()


def test_a_file_gets_what_is_said_and_no_bar(capsys: pytest.CaptureFixture[str]) -> None:
    """A log holds neither a bar nor what moves a cursor."""
    count()

    assert capsys.readouterr() == ("", "one frame was left out [of 2]\n")


def test_a_terminal_gets_a_bar(monkeypatch: pytest.MonkeyPatch) -> None:
    """With the stage's name and its count, below what is said."""
    monkeypatch.setenv("TERM", "xterm")
    screen = Screen()
    monkeypatch.setattr(sys, "stderr", screen)
    count()
    said = screen.getvalue()

    assert "one frame was left out [of 2]" in said
    assert said.rindex("2/2") > said.index("one frame")
    assert "replay" in said
