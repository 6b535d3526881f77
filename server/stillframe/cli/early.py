"""What has to run before slow imports: open standard streams, and exit on signals.

Knows signals and the process; imports nothing slow, for a signal may come meanwhile.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
from collections.abc import Sequence
from pathlib import Path
from types import FrameType

SIGNALS = (signal.SIGINT, signal.SIGTERM)
SERVE = "serve"
LOADER_THREAD = "loader"  # name of the thread in serve.py that loads the policy


def exit_on_signals(arguments: Sequence[str]) -> None:
    """Let SIGINT and SIGTERM end `stillframe serve` at once with status 0, until the server handles them.

    There is nothing yet to drain, and importing torch takes seconds during which no exception gets through. Does
    nothing for other commands, or outside the main thread.
    """
    if SERVE not in arguments[1:2] or threading.current_thread() is not threading.main_thread():
        return
    for number in SIGNALS:
        signal.signal(number, _stop)


def open_standard_streams() -> None:
    """Open standard streams that the shell has closed (`2>&-`): else the next socket would become standard error."""
    for descriptor in range(3):
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # gets the lowest free descriptor
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:
            setattr(sys, name, Path(os.devnull).open("w", encoding="utf-8"))  # noqa: SIM115 (stays open)


def exit_if_loading() -> None:
    """End the process with status 0 if a policy is still loading: torch cannot be interrupted, nor finalised."""
    if any(thread.name == LOADER_THREAD and thread.is_alive() for thread in threading.enumerate()):
        from stillframe.daemon.shutdown import exit_now

        exit_now(0)


def _stop(number: int, frame: FrameType | None) -> None:  # noqa: ARG001 (the shape of a signal's handler)
    with contextlib.suppress(OSError):
        os.write(2, f"stillframe: stopped by {signal.Signals(number).name} while starting\n".encode())
    os._exit(0)
