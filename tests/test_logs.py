from __future__ import annotations

import io
import json
import logging
import sys
from collections.abc import Callable

import pytest

from stillframe.errors import ConfigError
from stillframe.logs import LEVEL_VARIABLE, open_log


class Screen(io.StringIO):
    """Standard error that may be a terminal."""

    def __init__(self, *, terminal: bool):
        super().__init__()
        self._terminal = terminal

    def isatty(self) -> bool:
        """What logs.py asks."""
        return self._terminal


pytestmark = pytest.mark.usefixtures("tidy_logging")


@pytest.fixture
def show(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Screen]:
    """Replace standard error from here to the test's end: `show(terminal=True)`."""
    monkeypatch.delenv(LEVEL_VARIABLE, raising=False)

    def replace(*, terminal: bool = False) -> Screen:
        screen = Screen(terminal=terminal)
        monkeypatch.setattr(sys, "stderr", screen)
        return screen

    return replace


def test_a_line_is_one_json_object(show: Callable[..., Screen]) -> None:
    """Away from a terminal an event is one line for machines: text, level, time in UTC."""
    screen = show()
    open_log().info("listening on http://%s:%d", "127.0.0.1", 80)
    (line,) = screen.getvalue().splitlines()
    event = json.loads(line)

    assert event.pop("timestamp").endswith("Z")
    assert event == {"event": "listening on http://127.0.0.1:80", "level": "info"}


def test_a_failure_keeps_its_story_on_its_line(show: Callable[..., Screen]) -> None:
    """The traceback is a field of the event, not loose lines after it."""
    screen = show()
    log = open_log()
    try:
        raise KeyError("lost")
    except KeyError:
        log.exception("a frame failed")
    (line,) = screen.getvalue().splitlines()

    assert json.loads(line)["event"] == "a frame failed"
    assert "KeyError: 'lost'" in json.loads(line)["exception"]


def test_a_terminal_gets_lines_for_people(show: Callable[..., Screen]) -> None:
    """No JSON there; a traceback is laid out, and nothing warns about how."""
    screen = show(terminal=True)
    log = open_log()
    try:
        raise KeyError("lost")
    except KeyError:
        log.exception("a frame failed")

    assert "a frame failed" in screen.getvalue()
    assert "KeyError: 'lost'" in screen.getvalue()
    assert not screen.getvalue().startswith("{")
    assert "Logging error" not in screen.getvalue()  # where logging puts warnings that pytest turned into errors


def test_the_level_comes_from_the_environment(show: Callable[..., Screen], monkeypatch: pytest.MonkeyPatch) -> None:
    """At `warning`, information is not written and warnings are."""
    screen = show()
    monkeypatch.setenv(LEVEL_VARIABLE, "Warning")
    log = open_log()
    log.info("quiet")
    log.warning("loud")

    assert [json.loads(line)["event"] for line in screen.getvalue().splitlines()] == ["loud"]


def test_a_level_that_is_none_is_refused(show: Callable[..., Screen], monkeypatch: pytest.MonkeyPatch) -> None:
    """The variable, its value, the levels, the closest of them; and the log stays as it was."""
    screen = show()
    monkeypatch.setenv(LEVEL_VARIABLE, "warn")
    before = logging.getLogger().handlers[:]

    with pytest.raises(ConfigError, match=r"STILLFRAME_LOG is 'warn'; expected one of debug, info, .*'warning'"):
        open_log()
    assert logging.getLogger().handlers == before
    assert screen.getvalue() == ""


def test_libraries_do_not_chatter(show: Callable[..., Screen]) -> None:
    """Each request of an HTTP client, each chunk of a PNG: not in our log."""
    screen = show()
    open_log()
    for name in ("uvicorn.error", "httpx", "httpcore.connection", "PIL.PngImagePlugin", "matplotlib.font_manager"):
        logging.getLogger(name).info("chatter")
    logging.getLogger("uvicorn.error").error("trouble")

    assert [json.loads(line)["event"] for line in screen.getvalue().splitlines()] == ["trouble"]
