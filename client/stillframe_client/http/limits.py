"""What one call may still take: seconds until its end, and bytes of a reply.

Knows no socket. One per client, and per thread that uses the client.
"""

from __future__ import annotations

import threading
import time

from stillframe_client.errors import BadReply

MAX_REPLY_BYTES = 16 * 2**20  # head and body as they travel: an action has some hundred bytes, a model's card thousands


class TimeLimitReached(Exception):
    """The call's time is over. Never raised to callers."""


class CallLimits(threading.local):
    """Counts one call. Without a call there is no time left."""

    def __init__(self) -> None:
        self._until_s = 0.0
        self.reply_bytes = 0  # of a reply to what was sent last

    def begin_call(self, timeout_s: float) -> None:
        """A call begins: it may take `timeout_s`."""
        self._until_s = time.monotonic() + timeout_s
        self.reply_bytes = 0

    def begin_reply(self) -> None:
        """Something is sent, or sent again, within the same call: nothing of its reply has come."""
        self.reply_bytes = 0

    def remaining_s(self) -> float:
        """Seconds that are left. Raises TimeLimitReached."""
        remaining_s = self._until_s - time.monotonic()
        if remaining_s <= 0:
            raise TimeLimitReached
        return remaining_s

    def count(self, n_bytes: int) -> None:
        """So many bytes came. Raises BadReply beyond MAX_REPLY_BYTES."""
        self.reply_bytes += n_bytes
        check_size(self.reply_bytes)


def check_size(n_bytes: int) -> None:
    """Raises BadReply for a reply that no daemon sends."""
    if n_bytes > MAX_REPLY_BYTES:
        raise BadReply(f"The reply has over {MAX_REPLY_BYTES} bytes, more than a daemon's can have; check the URL.")
