"""What the 100 Hz loop leaves for the thread that talks to the arm: the newest order and the newest point, no queue.

Knows no library. Leaving something never waits; an order takes away the point that was left before it.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Optional, Tuple

if TYPE_CHECKING:
    from stillframe_client.jaco2.domain import Twist


class Mailbox:
    """One slot each."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._order: Optional[str] = None
        self._twist: Optional[Twist] = None
        self._left_s = 0.0
        self._closed = False

    def order(self, name: str) -> None:
        """Leave an order in place of the one before: of stop and start only the newest counts."""
        with self._changed:
            self._order, self._twist = name, None
            self._changed.notify()

    def twist(self, twist: Twist, now_s: float) -> bool:
        """Leave a twist; False where one was still there, which is dropped."""
        with self._changed:
            fresh = self._twist is None
            self._twist, self._left_s = twist, now_s
            self._changed.notify()
        return fresh

    def close(self) -> None:
        """Let the thread end when what is left has been taken."""
        with self._changed:
            self._closed = True
            self._changed.notify()

    def take(self, timeout_s: float) -> Tuple[Optional[str], Optional[Twist], float, bool]:
        """Order, twist, when the twist was left, and whether to end; waits until there is something."""
        with self._changed:
            if self._order is None and self._twist is None and not self._closed:
                self._changed.wait(max(timeout_s, 0.0))
            taken = (self._order, self._twist, self._left_s, self._closed)
            self._order = self._twist = None
            return taken

    @property
    def has_order(self) -> bool:
        """Whether one waits."""
        with self._changed:
            return self._order is not None
