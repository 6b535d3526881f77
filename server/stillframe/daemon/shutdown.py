"""Graceful shutdown: report draining, answer the frames in flight, then exit.

Knows signals, the process and uvicorn's server; not what is served.
"""

from __future__ import annotations

import logging
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import uvicorn

from stillframe.web.service.lifecycle import Lifecycle

ENGINE_FAILED = 1  # exit status after the engine has failed
ACCEPT_BACKLOG = 1024  # connections: a flood of them must not keep a robot's out of the queue
SIGNALS = (signal.SIGINT, signal.SIGTERM)


class DrainingServer(uvicorn.Server):
    """Keeps listening while it drains, so that /readyz can report it; a second signal ends the process at once."""

    def __init__(self, config: uvicorn.Config, lifecycle: Lifecycle, drain_s: float):
        """`drain_s`: how long frames in flight may take once the daemon is told to stop."""
        super().__init__(config)
        self._lifecycle = lifecycle
        self._drain_s = drain_s
        self._leave_by_s: float | None = None  # time.monotonic; None: not told to stop

    def handle_exit(self, sig: int, frame: object) -> None:  # noqa: ARG002 (the shape of a signal's handler)
        """Begin to drain; on a second signal restore its default action and raise it again."""
        if self._leave_by_s is not None:
            signal.signal(sig, signal.SIG_DFL)
            signal.raise_signal(sig)
            return
        self._leave_by_s = time.monotonic() + self._drain_s
        self._lifecycle.drain()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Begin to listen, with a longer accept backlog than the event loop takes in one turn."""
        await super().startup(sockets)
        for listening in sockets or ():
            listening.listen(ACCEPT_BACKLOG)

    async def on_tick(self, counter: int) -> bool:
        """Exit once nothing is in flight, or when the drain time is over."""
        if self._leave_by_s is not None:
            self.should_exit |= not self.server_state.tasks or time.monotonic() > self._leave_by_s
        return await super().on_tick(counter)


def exit_within(within_s: float) -> None:
    """End the process with ENGINE_FAILED after so long, if it has not ended by itself: a thread may hang."""
    timer = threading.Timer(within_s, exit_now, (ENGINE_FAILED,))
    timer.daemon = True
    timer.start()


def exit_now(status: int) -> None:
    """Flush logs and streams, then end the process without joining any thread."""
    with suppress(Exception):
        logging.shutdown()
    for stream in (sys.stdout, sys.stderr):
        with suppress(Exception):
            stream.flush()
    os._exit(status)


@contextmanager
def stopping_on_signals(server: DrainingServer) -> Iterator[None]:
    """Let SIGINT and SIGTERM drain `server`, also before and after it runs; restore the handlers on exit."""
    before = {number: signal.signal(number, server.handle_exit) for number in SIGNALS}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
