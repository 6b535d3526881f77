"""The key that ends a view, typed at a terminal of the test's own."""

from __future__ import annotations

import io
import os
import pty
import termios
from collections.abc import Iterator

import pytest

from stillframe.tools.top.keys import typed_keys

LONG_S = 30.0


@pytest.fixture
def terminal() -> Iterator[tuple[int, int]]:
    """Both ends of a terminal: the person's, and the program's."""
    person, program = pty.openpty()
    yield person, program
    os.close(person)
    os.close(program)


@pytest.mark.parametrize("typed", [b"q", b"Q", b"xyq", b"\x1b[Aq"])
def test_q_ends_the_wait(terminal: tuple[int, int], typed: bytes) -> None:
    """At once, without Enter, whatever was typed before it."""
    person, program = terminal
    with os.fdopen(program, closefd=False) as stream, typed_keys(stream) as keys:
        os.write(person, typed)

        assert keys.quit_within(LONG_S)


def test_other_keys_do_not(terminal: tuple[int, int]) -> None:
    """Nor does no key at all."""
    person, program = terminal
    with os.fdopen(program, closefd=False) as stream, typed_keys(stream) as keys:
        os.write(person, b"wertz")

        assert not keys.quit_within(0.1)
        assert not keys.quit_within(0.01)


def test_a_terminal_is_left_as_it_was(terminal: tuple[int, int]) -> None:
    """Keys are echoed again and come line by line, also where the view ended in an error."""
    _, program = terminal
    before = termios.tcgetattr(program)
    inside = []

    def fail() -> None:
        with os.fdopen(program, closefd=False) as stream, typed_keys(stream):
            inside.append(termios.tcgetattr(program)[3])
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()

    assert not inside[0] & (termios.ECHO | termios.ICANON)
    assert termios.tcgetattr(program) == before


def test_without_a_terminal_there_are_no_keys() -> None:
    """A pipe that is closed, or holds a q, ends nothing."""
    with typed_keys(io.StringIO("q")) as keys:
        assert not keys.quit_within(0.01)
