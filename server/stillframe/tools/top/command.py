"""`stillframe top`: one reading printed, or one after another drawn over the last until q or Ctrl-C.

Knows all of this room and the terminal.
"""

from __future__ import annotations

import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

from rich.console import Console, RenderableType
from rich.live import Live

from stillframe.tools.daemon_errors import daemon_errors
from stillframe.tools.top.keys import Keys, typed_keys
from stillframe.tools.top.reader import DaemonReader
from stillframe.tools.top.snapshot import Reading
from stillframe.tools.top.view import view
from stillframe_client import PolicyError

RATE_OVER_S = 1.0  # between the two readings that a single snapshot's rate takes
FILE_COLUMNS = 160  # of a view that goes to no terminal


def run_top(url: str, token: str | None, ca_file: str | None, refresh_s: float, *, once: bool) -> None:
    """Show a daemon until told to stop, or once. Raises StillframeError where it cannot be read at the start."""
    with daemon_errors(url), DaemonReader(url, token, ca_file) as reader:
        if once or not sys.stdout.isatty():
            _print_once(reader)
        else:
            _watch(reader, refresh_s)


def _print_once(reader: DaemonReader) -> None:
    reader.read()
    Keys(None).quit_within(RATE_OVER_S)
    console = Console(width=None if sys.stdout.isatty() else FILE_COLUMNS)
    console.print(view(reader.read(), console.width))


def _watch(reader: DaemonReader, refresh_s: float) -> None:
    """Draw readings until q, Ctrl-C or SIGTERM; a daemon that stops answering is waited for."""
    reading, console = reader.read(), Console()

    def drawn() -> RenderableType:
        return view(reading, console.width, console.height)

    with (
        _interruptible(),
        typed_keys(sys.stdin) as keys,
        Live(get_renderable=drawn, console=console, screen=True, auto_refresh=False) as live,
    ):
        while not keys.quit_within(refresh_s):
            reading = _next(reader, reading)
            live.refresh()


def _next(reader: DaemonReader, last: Reading) -> Reading:
    """The next reading; where there is none, the last one with the trouble."""
    try:
        return reader.read()
    except PolicyError as error:
        return replace(last, trouble=str(error))


@contextmanager
def _interruptible() -> Iterator[None]:
    """End the block quietly at Ctrl-C or SIGTERM, so that the terminal is put back."""
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    except KeyboardInterrupt:
        pass
    finally:
        signal.signal(signal.SIGTERM, before)
