"""One connection while it lasts: a thread that sends, and the loop that reads.

Knows no topic. A server that answers no ping for SILENT_S has gone, whatever its socket says.
"""

from __future__ import annotations

import contextlib
import threading
import time
from typing import TYPE_CHECKING, Any, Callable

from websockets.exceptions import ConnectionClosed

from stillframe_client.jaco2.rosbridge.dial import abort
from stillframe_client.jaco2.rosbridge.outbox import Outbox

if TYPE_CHECKING:
    from stillframe_client.jaco2.rosbridge.counts import Counts
    from stillframe_client.jaco2.rosbridge.incoming import Incoming

LOOK_S = 0.2  # how often the reader looks whether the other end still answers
SILENT_S = 2.0
LEAVE_S = 0.5
DRAIN_S = 0.05


class Session:
    """An open connection; `read` and `end` are called by one thread."""

    def __init__(self, connection: Any, incoming: Incoming, counts: Counts, clock: Callable[[], float]):
        self.outbox = Outbox(connection, counts, clock)
        self._connection, self._incoming, self._counts = connection, incoming, counts
        self._sender = threading.Thread(target=self._send, name="stillframe-rosbridge-send", daemon=True)

    def start(self) -> None:
        """Begin to send."""
        self._sender.start()

    def read(self, closing: threading.Event) -> str:
        """Read until it ends or is to be closed; return why it ended."""
        while not closing.is_set():
            if self.outbox.unanswered_s() > SILENT_S:
                return f"no answer to a ping for {SILENT_S:g} s"
            try:
                self._incoming.take(self._connection.recv(LOOK_S))
            except TimeoutError:
                continue
            except UnicodeDecodeError:
                self._counts.garbage += 1
            except ConnectionClosed as error:
                return str(error)
        return "it was closed here"

    def end(self, *, in_order: bool) -> None:
        """Close it; `in_order`: what still waits is sent first, where the other end takes it."""
        self.outbox.close()
        if not in_order or not self._ends_within(LEAVE_S):
            abort(self._connection)
            self._ends_within(LEAVE_S)
        if self._sender.ident is not None:
            self._sender.join(LEAVE_S)

    def _send(self) -> None:
        self.outbox.run()
        with contextlib.suppress(Exception):
            self._connection.close()

    def _ends_within(self, seconds: float) -> bool:
        """Read into nothing until it has ended: with messages that are not taken, some releases never close."""
        ends_s = time.monotonic() + seconds
        while time.monotonic() < ends_s:
            try:
                self._connection.recv(DRAIN_S)
            except (TimeoutError, UnicodeDecodeError):
                continue
            except ConnectionClosed:
                return True
        return False
