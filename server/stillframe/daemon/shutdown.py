"""How the daemon stops: whoever asks is told that it drains, frames in flight are answered, then it leaves.

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

ENGINE_FAILED = 1  # the exit status of a daemon whose engine has ended
ACCEPT_BACKLOG = 1024  # connections, so that a flood of them does not keep a robot's from waiting too
SIGNALS = (signal.SIGINT, signal.SIGTERM)


class DrainingServer(uvicorn.Server):
    """Goes on listening while it drains, so that /readyz says so; a second signal ends the process at once."""

    def __init__(self, config: uvicorn.Config, lifecycle: Lifecycle, drain_s: float):
        """`drain_s`: how long frames in flight may take once the daemon is told to stop."""
        super().__init__(config)
        self._lifecycle = lifecycle
        self._drain_s = drain_s
        self._leave_by_s: float | None = None  # of time.monotonic; None: nobody has told it to stop

    def handle_exit(self, sig: int, frame: object) -> None:  # noqa: ARG002 (the shape of a signal's handler)
        """Begin to drain; when told again, give way to what the signal does by itself."""
        if self._leave_by_s is not None:
            signal.signal(sig, signal.SIG_DFL)
            signal.raise_signal(sig)
            return
        self._leave_by_s = time.monotonic() + self._drain_s
        self._lifecycle.drain()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Begin to listen; more connections may wait in the system than are accepted in one turn of the event loop."""
        await super().startup(sockets)
        for listening in sockets or ():
            listening.listen(ACCEPT_BACKLOG)

    async def on_tick(self, counter: int) -> bool:
        """Leave once nothing is in flight any more, or when its time to drain is over."""
        if self._leave_by_s is not None:
            self.should_exit |= not self.server_state.tasks or time.monotonic() > self._leave_by_s
        return await super().on_tick(counter)


def exit_within(within_s: float) -> None:
    """End the process with ENDED by then, should it not have ended itself: what hangs may hang for ever."""
    timer = threading.Timer(within_s, exit_now, (ENGINE_FAILED,))
    timer.daemon = True
    timer.start()


def exit_now(status: int) -> None:
    """Write out what is to be said, and end the process: no thread is asked."""
    with suppress(Exception):
        logging.shutdown()
    for stream in (sys.stdout, sys.stderr):
        with suppress(Exception):
            stream.flush()
    os._exit(status)


@contextmanager
def stopping_on_signals(server: DrainingServer) -> Iterator[None]:
    """Let SIGINT and SIGTERM stop `server`, also before and after it runs; then put back what they did before."""
    before = {number: signal.signal(number, server.handle_exit) for number in SIGNALS}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
