"""in/start and in/stop of the driver: a start is tried once, a stop until the driver confirms it.

Knows no command. The order in which a server carries out two calls is not sure, so a start waits for no stop to be
open, and a start that is answered after a stop was asked for is followed by another stop.
"""

from __future__ import annotations

import logging
import threading
from functools import partial
from typing import TYPE_CHECKING, Callable, Optional

if TYPE_CHECKING:
    from stillframe_client.jaco2.rosbridge.calls import Reply
    from stillframe_client.jaco2.rosbridge.connection import Connection
    from stillframe_client.jaco2.rosbridge.messages import Names

AGAIN_S = 0.5  # a stop that is not confirmed by then is asked for again
LOG = logging.getLogger("stillframe_client.jaco2.rosbridge")


class Switch:
    """What one driver was asked for last, and whether it did it. None of its methods waits or raises."""

    def __init__(self, connection: Connection, names: Names, clock: Callable[[], float]):
        self._connection, self._names, self._clock = connection, names, clock
        self._lock = threading.Lock()
        self._turn = 0  # grows with each start and stop
        self._stopping = False  # asked for, and not confirmed
        self._asked_s: Optional[float] = None  # when a stop was last sent; None: not on this connection
        self.is_stopped = False  # by the last call here, whether confirmed or not
        self.error = ""  # why the last start failed

    @property
    def is_settled(self) -> bool:
        """Whether no stop is open."""
        return not self._stopping

    def start(self) -> None:
        """Let commands in; where that fails, `error` says why."""
        with self._lock:
            if self._stopping:
                self.error = f"{self._names.topic('in/stop')} is not confirmed yet: wait for it, then start again"
                return
            self._turn += 1
            self.is_stopped, self.error = False, ""
            turn = self._turn
        self._call("in/start", "Start", partial(self._started, turn))

    def stop(self) -> None:
        """Stop the driver, as soon as it can be reached."""
        with self._lock:
            self._turn += 1
            self.is_stopped = self._stopping = True
            self._asked_s = None
        self.deliver()

    def reached(self) -> None:
        """There is a new connection: a stop that is open goes out at once."""
        with self._lock:
            self._asked_s = None
        self.deliver()

    def deliver(self) -> None:
        """Send the stop that is open, unless it was sent a moment ago. Call it often."""
        now_s = self._clock()
        with self._lock:
            waits = self._asked_s is not None and now_s - self._asked_s < AGAIN_S
            if not self._stopping or waits or not self._connection.is_open:
                return
            self._asked_s, turn = now_s, self._turn
        self._call("in/stop", "Stop", partial(self._stopped, turn))
        self._call("in/clear_trajectories", "ClearTrajectories", partial(_log, "in/clear_trajectories"))

    def _started(self, turn: int, reply: Reply) -> None:
        with self._lock:
            if turn == self._turn and reply.error:
                self.error = f"{self._names.topic('in/start')} failed: {reply.error}"
            elif turn != self._turn and self.is_stopped:
                self._stopping, self._asked_s = True, None

    def _stopped(self, turn: int, reply: Reply) -> None:
        _log("in/stop", reply)
        with self._lock:
            if turn == self._turn and not reply.error:
                self._stopping = False

    def _call(self, service: str, kind: str, done: Callable[[Reply], None]) -> None:
        self._connection.call(self._names.topic(service), {}, done, self._names.service_type("kinova_msgs", kind))


def _log(service: str, reply: Reply) -> None:
    if reply.error:
        LOG.warning("%s failed: %s", service, reply.error)
