"""What a process needs before anything that takes long is imported: three open files, and an end when a signal says so.

Knows signals and the process; imports nothing that takes long, for a signal may come first.
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
LOADER_THREAD = "loader"  # the thread of serve.py that loads a policy, by its name


def exit_on_signals(arguments: Sequence[str]) -> None:
    """From here until a server takes over, SIGINT and SIGTERM end `stillframe serve` at once with status 0.

    There is nothing yet to drain, and importing torch takes seconds in which no exception would get through. Nothing
    happens for other commands, nor in another thread than the first.
    """
    if SERVE not in arguments[1:2] or threading.current_thread() is not threading.main_thread():
        return
    for number in SIGNALS:
        signal.signal(number, _stop)


def open_standard_streams() -> None:
    """Open what a shell has closed (`2>&-`): else the next socket would be standard error, and be written to."""
    for descriptor in range(3):
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest that is free
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:
            setattr(sys, name, Path(os.devnull).open("w", encoding="utf-8"))  # noqa: SIM115 (stays open)


def exit_if_loading() -> None:
    """End the process with status 0 if a policy is still being loaded: torch cannot be stopped, nor finalised."""
    if any(thread.name == LOADER_THREAD and thread.is_alive() for thread in threading.enumerate()):
        from stillframe.daemon.shutdown import exit_now

        exit_now(0)


def _stop(number: int, frame: FrameType | None) -> None:  # noqa: ARG001 (the shape of a signal's handler)
    with contextlib.suppress(OSError):
        os.write(2, f"stillframe: stopped by {signal.Signals(number).name} while starting\n".encode())
    os._exit(0)
