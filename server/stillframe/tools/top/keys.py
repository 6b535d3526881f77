"""Waits for the key that ends a view, while the terminal hands each key on at once.

Knows a terminal's modes; nothing of what is shown.
"""

from __future__ import annotations

import os
import select
import termios
import time
import tty
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TextIO

QUIT = b"qQ"


class Keys:
    """Keys as they are typed; without a terminal to read from there are none."""

    def __init__(self, descriptor: int | None):
        self._descriptor = descriptor

    def quit_within(self, seconds: float) -> bool:
        """Wait so long, or until q is typed; True if it was."""
        until_s = time.monotonic() + seconds
        while (left_s := until_s - time.monotonic()) > 0:
            if self._descriptor is None:
                time.sleep(left_s)
            elif select.select([self._descriptor], [], [], left_s)[0]:
                typed = os.read(self._descriptor, 64)
                if not typed:  # the terminal is gone
                    return True
                if any(key in QUIT for key in typed):
                    return True
        return False


@contextmanager
def typed_keys(stream: TextIO) -> Iterator[Keys]:
    """Hand keys on unechoed while the block lasts; the terminal is as it was afterwards."""
    if not stream.isatty():
        yield Keys(None)
        return
    descriptor = stream.fileno()
    before = termios.tcgetattr(descriptor)
    tty.setcbreak(descriptor)
    try:
        yield Keys(descriptor)
    finally:
        termios.tcsetattr(descriptor, termios.TCSADRAIN, before)
