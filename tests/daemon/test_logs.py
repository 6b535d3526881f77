from __future__ import annotations

import contextlib
import io
import json
import logging
import os
import sys
from collections.abc import Callable, Iterator
from types import SimpleNamespace

import pytest

from stillframe.daemon import logs
from stillframe.daemon.logs import LEVEL_VARIABLE, lines_lost, open_log
from stillframe.errors import ConfigError


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


def test_a_summary_is_a_member_for_machines_and_lines_for_people(show: Callable[..., Screen]) -> None:
    """Facts by name in the one object, or one below the other under the event; other events have none."""
    facts = {"model": "arm-policy", "listening": "http://127.0.0.1:80"}
    machines = show()
    log = open_log()
    log.info("ready", extra={"summary": facts})
    log.info("then")
    people = show(terminal=True)
    open_log().info("ready", extra={"summary": facts})
    first, then = map(json.loads, machines.getvalue().splitlines())

    assert first["event"] == "ready"
    assert first["summary"] == facts
    assert "summary" not in then
    assert [line.split("\x1b")[0].rstrip() for line in people.getvalue().splitlines()[1:]] == [
        "  model      arm-policy",
        "  listening  http://127.0.0.1:80",
    ]


def test_a_failure_keeps_its_traceback_on_its_line(show: Callable[..., Screen]) -> None:
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


WAIT_S = 60  # for what has to happen; no test waits this long unless it fails


class Pipe:
    """A standard error that is not read until somebody does."""

    def __init__(self) -> None:
        self.reads, self.writes = os.pipe()
        self.lines: list[dict[str, object]] = []

    def isatty(self) -> bool:
        """No."""
        return False

    def fileno(self) -> int:
        """Where to write."""
        return self.writes

    def fill(self) -> None:
        """Until not a byte more fits."""
        os.set_blocking(self.writes, False)
        with contextlib.suppress(BlockingIOError):
            while True:
                os.write(self.writes, b" " * 4095 + b"\n")
        os.set_blocking(self.writes, True)

    def read_until(self, event: str) -> None:
        """Take in lines up to one that holds such words."""
        with os.fdopen(os.dup(self.reads), encoding="utf-8") as stream:
            for line in stream:
                if line.strip():
                    self.lines.append(json.loads(line))
                    if event in str(self.lines[-1]["event"]):
                        return


@pytest.fixture
def pipe(monkeypatch: pytest.MonkeyPatch) -> Iterator[Pipe]:
    """In the place of standard error."""
    monkeypatch.delenv(LEVEL_VARIABLE, raising=False)
    made = Pipe()
    monkeypatch.setattr(logs, "sys", SimpleNamespace(stderr=made))  # pytest puts its own in the place of sys.stderr
    yield made
    monkeypatch.undo()
    os.close(made.reads)  # a thread that writes still gets an error, and ends
    for handler in logging.getLogger().handlers:
        if isinstance(handler, logs.BackgroundHandler):
            handler.close()
            handler._thread.join(WAIT_S)
    os.close(made.writes)


def test_a_pipe_that_is_not_read_holds_up_nothing(pipe: Pipe, monkeypatch: pytest.MonkeyPatch) -> None:
    """Lines that find no room are counted, and once it drains a line says how many there were."""
    monkeypatch.setattr(logs, "QUEUE_LINES", 10)
    pipe.fill()
    log = open_log(background=True)
    for number in range(1000):
        log.info("line %d", number)
    lost = lines_lost()
    pipe.read_until("lines of the log were lost")

    assert 1000 - 11 - 1 <= lost <= 1000 - 10
    assert [line["event"] for line in pipe.lines[:2]] == ["line 0", f"{lost} lines of the log were lost: " + SLOW]
    assert pipe.lines[1]["level"] == "warning"
    assert lines_lost() == lost


SLOW = "standard error was read too slowly"


def test_its_end_does_not_wait_for_a_pipe_that_is_not_read(pipe: Pipe, monkeypatch: pytest.MonkeyPatch) -> None:
    """A bounded time for the last words, and not a moment more."""
    monkeypatch.setattr(logs, "CLOSE_TIMEOUT_S", 0.02)
    pipe.fill()
    open_log(background=True).info("on its way")
    (handler,) = logging.getLogger().handlers
    handler.close()

    assert handler._thread.is_alive()  # it is left behind: a daemon's


def test_what_is_queued_is_written_at_the_end(pipe: Pipe) -> None:
    """Where somebody reads, nothing is lost."""
    log = open_log(background=True)
    for number in range(100):
        log.info("line %d", number)
    (handler,) = logging.getLogger().handlers
    handler.close()
    pipe.read_until("line 99")

    assert [line["event"] for line in pipe.lines] == [f"line {number}" for number in range(100)]
    assert lines_lost() == 0


def test_a_pipe_that_is_closed_loses_lines_and_nothing_else(pipe: Pipe) -> None:
    """The reader is gone."""
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, pipe.reads)
    os.close(nothing)
    log = open_log(background=True)
    log.info("heard by nobody")
    (handler,) = logging.getLogger().handlers
    handler.close()

    assert handler._written.is_set()
    assert lines_lost() == 1


def test_repeated_failures_have_a_traceback_once_a_minute(pipe: Pipe) -> None:
    """Then in a line each; another kind, and the same a minute later, whole again."""
    now = [0.0]
    log = open_log(background=True)
    (handler,) = logging.getLogger().handlers
    handler._failures = logs.FailureDeduplicator(lambda: now[0])

    def fail(kind: type[Exception]) -> None:
        try:
            raise kind("lost")
        except kind:
            log.exception("frame %d failed", 7)

    for kind in (KeyError, KeyError, KeyError, ValueError):
        fail(kind)
    now[0] = logs.REPEAT_AFTER_S
    fail(KeyError)
    handler.close()
    log.info("end")
    handler._write(handler._formats.format(logging.LogRecord("x", 20, "", 0, "end", (), None)) + "\n")
    pipe.read_until("end")

    assert ["exception" in line for line in pipe.lines[:5]] == [True, False, False, True, True]
    assert pipe.lines[2]["event"] == "frame 7 failed: KeyError: 'lost' (as before, 2 times)"


def test_a_long_traceback_is_cut_in_the_middle(show: Callable[..., Screen]) -> None:
    """Its beginning and its end say what happened."""
    screen = show()
    log = open_log()
    try:
        raise KeyError("x" * 100_000)
    except KeyError:
        log.exception("a frame failed")
    story = json.loads(screen.getvalue())["exception"]

    assert story.startswith("Traceback")
    assert story.endswith("xxx'")
    assert "characters ..." in story
    assert len(story) < logs.MAX_TRACEBACK_CHARS + 100


@pytest.mark.parametrize("background", [True, False])
def test_without_a_standard_error_nothing_is_written(monkeypatch: pytest.MonkeyPatch, *, background: bool) -> None:
    """A program may have none."""
    monkeypatch.setattr(sys, "stderr", None)
    log = open_log(background=background)
    log.info("to nobody")
    (handler,) = logging.getLogger().handlers
    handler.close()

    assert lines_lost() == 0
