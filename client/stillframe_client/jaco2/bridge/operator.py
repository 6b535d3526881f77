"""The operator: any key and any signal stops; a status line says state and reason.

Knows no policy and no arm.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
import time
from typing import TYPE_CHECKING, Any, Callable, List, Optional

if TYPE_CHECKING:
    from types import TracebackType
    from typing import TextIO

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT)
LINE_S = 0.2
WIDTH = 118


class Operator:
    """Listens while it is entered, in a running event loop."""

    def __init__(self, on_stop: Callable[[], None], out: Optional[TextIO] = None):
        """`on_stop` is called at once, for the first of them."""
        self._on_stop = on_stop
        self._out = out or sys.stderr
        self._stopped: Optional[str] = None
        self._terminal: Optional[List[Any]] = None  # its settings before
        self._said, self._said_s = "", 0.0

    @property
    def stopped(self) -> Optional[str]:
        """How the operator stopped it; None: not."""
        return self._stopped

    def say(self, line: str) -> None:
        """Show a status line: in place on a terminal, else each new one on a line of its own."""
        if self._out.isatty():
            if time.monotonic() - self._said_s >= LINE_S:
                self._said_s = time.monotonic()
                self._write(f"\r{line[:WIDTH]:<{WIDTH}}")
        elif line.split(" | ")[0] != self._said:
            self._said = line.split(" | ")[0]
            self.tell(line)

    def tell(self, text: str) -> None:
        """Say something that stays."""
        self._write(f"\r{text}\n" if self._out.isatty() else f"{text}\n")

    def __enter__(self) -> Operator:
        loop = asyncio.get_running_loop()
        for number in SIGNALS:
            loop.add_signal_handler(number, self._stop, signal.Signals(number).name)
        if sys.stdin is not None and sys.stdin.isatty():
            self._listen(loop)
        return self

    def __exit__(
        self, kind: Optional[type], error: Optional[BaseException], traceback: Optional[TracebackType]
    ) -> None:
        loop = asyncio.get_running_loop()
        for number in SIGNALS:
            loop.remove_signal_handler(number)
        if self._terminal is not None:
            import termios

            loop.remove_reader(sys.stdin.fileno())
            with contextlib.suppress(termios.error):
                termios.tcsetattr(sys.stdin.fileno(), termios.TCSADRAIN, self._terminal)

    def _listen(self, loop: asyncio.AbstractEventLoop) -> None:
        """Take single keys, without echo."""
        import termios
        import tty

        with contextlib.suppress(termios.error):
            self._terminal = termios.tcgetattr(sys.stdin.fileno())
            tty.setcbreak(sys.stdin.fileno())
            loop.add_reader(sys.stdin.fileno(), self._key)

    def _key(self) -> None:
        try:
            pressed = os.read(sys.stdin.fileno(), 64)
        except OSError:
            pressed = b""
        if not pressed:
            asyncio.get_running_loop().remove_reader(sys.stdin.fileno())
        self._stop("a key" if pressed else "the end of its terminal")

    def _write(self, text: str) -> None:
        with contextlib.suppress(OSError):  # the terminal may be gone, and the run has to end well
            self._out.write(text)
            self._out.flush()

    def _stop(self, how: str) -> None:
        if self._stopped is None:
            self._stopped = f"stopped by {how}"
            self._on_stop()
