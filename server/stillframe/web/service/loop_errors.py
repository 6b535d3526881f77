"""Event loop errors that belong to no request: running out of file descriptors is logged once a minute.

Knows no connection.
"""

from __future__ import annotations

import asyncio
import errno
from collections.abc import Callable
from logging import Logger
from time import monotonic
from typing import Any

LOG_EVERY_S = 60.0
_EXHAUSTED = {errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM}


class LoopErrorHandler:
    """Exception handler of the event loop; logs exhausted file descriptors or memory once per LOG_EVERY_S."""

    def __init__(self, log: Logger, clock: Callable[[], float] = monotonic):
        self._log = log
        self._clock = clock
        self._said_s = -LOG_EVERY_S

    def __call__(self, loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        """See asyncio's `call_exception_handler`."""
        error = context.get("exception")
        if not isinstance(error, OSError) or error.errno not in _EXHAUSTED:
            loop.default_exception_handler(context)
        elif self._clock() - self._said_s >= LOG_EVERY_S:
            self._said_s = self._clock()
            self._log.error(
                "no connection can be accepted: %s; raise the limit of open files (ulimit -n)", error.strerror
            )
