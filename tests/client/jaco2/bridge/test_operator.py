from __future__ import annotations

import asyncio
import io
import os
import pty
import signal
import sys
import termios
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from stillframe_client.jaco2.bridge.operator import LINE_S, SIGNALS, Operator

WAIT_S = 60.0


@dataclass
class Terminal:
    """Both ends of a terminal: an operator's, and the program's as its standard input."""

    ours: int
    theirs: int

    def press(self, keys: bytes) -> None:
        """Press keys."""
        os.write(self.ours, keys)

    @property
    def echoes(self) -> bool:
        """Whether keys are shown, as a shell leaves it."""
        return bool(termios.tcgetattr(self.theirs)[3] & termios.ECHO)

    def hang_up(self) -> None:
        """Close the operator's end."""
        os.close(self.ours)
        self.ours = -1


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> Iterator[Terminal]:
    """A terminal as standard input."""
    made = Terminal(*pty.openpty())
    with open(made.theirs, closefd=False) as stdin:
        monkeypatch.setattr(sys, "stdin", stdin)
        yield made
    for end in (made.ours, made.theirs):
        if end >= 0:
            os.close(end)


@pytest.fixture
def no_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    """No standard input at all."""
    monkeypatch.setattr(sys, "stdin", None)


def stopped_by(act: Callable[[], Any], out: Any = None) -> tuple[str | None, int]:
    """Do it while an operator listens; how it was stopped, and how often that was passed on."""

    async def listen() -> tuple[str | None, int]:
        calls: list[bool] = []
        with Operator(lambda: calls.append(True), out or io.StringIO()) as operator:
            act()
            until_s = asyncio.get_running_loop().time() + WAIT_S
            while operator.stopped is None and asyncio.get_running_loop().time() < until_s:
                await asyncio.sleep(0.005)
            await asyncio.sleep(0.02)
            return operator.stopped, len(calls)

    return asyncio.run(listen())


@pytest.mark.parametrize("key", [b" ", b"q", b"\n", b"\x1b", b"\x1b[A", b"\x00", "ü".encode()], ids=repr)
def test_any_key_stops(key: bytes, terminal: Terminal) -> None:
    """Without a return, once, and the terminal is afterwards as it was."""
    assert terminal.echoes

    assert stopped_by(lambda: terminal.press(key)) == ("stopped by a key", 1)
    assert terminal.echoes


def test_many_keys_stop_once(terminal: Terminal) -> None:
    """A second key, and a signal after it, change nothing."""

    def hammer() -> None:
        terminal.press(b"abc")
        os.kill(os.getpid(), signal.SIGTERM)

    how, times = stopped_by(hammer)

    assert how in ("stopped by a key", "stopped by SIGTERM")
    assert times == 1


def test_a_terminal_that_goes_stops(terminal: Terminal) -> None:
    """Where no key can be pressed any more, nothing moves."""
    assert stopped_by(terminal.hang_up) == ("stopped by the end of its terminal", 1)


@pytest.mark.parametrize("number", SIGNALS, ids=lambda number: number.name)
@pytest.mark.usefixtures("no_terminal")
def test_each_signal_stops(number: signal.Signals) -> None:
    """By its name; afterwards the signal does what it did before."""
    before = signal.getsignal(number)

    assert stopped_by(lambda: os.kill(os.getpid(), number)) == (f"stopped by {number.name}", 1)
    assert signal.getsignal(number) in (before, signal.default_int_handler, signal.SIG_DFL)


class Screen(io.StringIO):
    """A terminal to write on."""

    def isatty(self) -> bool:
        """It is one."""
        return True


def test_a_status_line_stays_in_its_place() -> None:
    """On a terminal it is written over, no more often than can be read; what is told stays."""
    screen = Screen()
    operator = Operator(lambda: None, screen)
    operator.say("RUNNING | 0.1 m/s")
    operator.say("RUNNING | 0.2 m/s")
    operator.tell("done")

    assert LINE_S > 0
    assert screen.getvalue().startswith("\rRUNNING | 0.1 m/s ")
    assert "0.2" not in screen.getvalue()
    assert screen.getvalue().endswith("\rdone\n")


def test_a_file_gets_a_line_for_each_state() -> None:
    """What is no terminal gets each state once."""
    file = io.StringIO()
    operator = Operator(lambda: None, file)
    for line in ("READY | 1", "RUNNING | 2", "RUNNING | 3", "HOLD | 4"):
        operator.say(line)

    assert file.getvalue() == "READY | 1\nRUNNING | 2\nHOLD | 4\n"


def test_a_screen_that_is_gone_hinders_nothing() -> None:
    """What cannot be written is dropped: the run ends well all the same."""

    class Gone(Screen):
        def write(self, text: str) -> int:
            raise OSError(5, f"Input/output error: {text}")

    operator = Operator(lambda: None, Gone())

    operator.say("RUNNING")
    operator.tell("done")
    assert operator.stopped is None
