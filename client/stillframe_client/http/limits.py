"""The limits of one call: its deadline, and the size of its reply.

Knows no socket. One per client, and per thread that uses the client.
"""

from __future__ import annotations

import threading
import time

from stillframe_client.errors import BadReply

MAX_REPLY_BYTES = 16 * 2**20  # head and body as they travel: an action has some hundred bytes, a model's card thousands


class TimeLimitReached(Exception):
    """The call's deadline has passed. Never raised to callers."""


class CallLimits(threading.local):
    """The current call's limits; before a call no time is left."""

    def __init__(self) -> None:
        self._until_s = 0.0
        self.reply_bytes = 0  # of a reply to what was sent last

    def begin_call(self, timeout_s: float) -> None:
        """Start a call that may take `timeout_s`."""
        self._until_s = time.monotonic() + timeout_s
        self.reply_bytes = 0

    def begin_reply(self) -> None:
        """A request is sent or resent within the call: reset the reply's size."""
        self.reply_bytes = 0

    def remaining_s(self) -> float:
        """Seconds until the deadline. Raises TimeLimitReached."""
        remaining_s = self._until_s - time.monotonic()
        if remaining_s <= 0:
            raise TimeLimitReached
        return remaining_s

    def count(self, n_bytes: int) -> None:
        """Count received bytes. Raises BadReply beyond MAX_REPLY_BYTES."""
        self.reply_bytes += n_bytes
        check_size(self.reply_bytes)


def check_size(n_bytes: int) -> None:
    """Raise BadReply for a reply over MAX_REPLY_BYTES."""
    if n_bytes > MAX_REPLY_BYTES:
        raise BadReply(f"The reply has over {MAX_REPLY_BYTES} bytes, more than a daemon's can have; check the URL.")
