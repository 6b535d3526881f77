"""Hands what comes in to those who asked for it: messages to their topic's taker, answers to their call.

Knows no socket. Whatever a server sends is taken: what cannot be read is counted and dropped.
"""

from __future__ import annotations

import json
import logging
from collections import deque
from typing import TYPE_CHECKING, Any, Callable, Deque, Dict, Mapping

if TYPE_CHECKING:
    from stillframe_client.jaco2.rosbridge.calls import Calls
    from stillframe_client.jaco2.rosbridge.counts import Counts

KEPT = 20  # statuses
LONGEST = 500  # characters of one
LOG = logging.getLogger("stillframe_client.jaco2.rosbridge")


class Incoming:
    """The receiving side, over all connects."""

    def __init__(self, calls: Calls, counts: Counts):
        self._calls, self._counts = calls, counts
        self._takers: Dict[str, Callable[[Dict[str, Any]], None]] = {}
        self.errors: Deque[str] = deque(maxlen=KEPT)  # the newest statuses that are errors or warnings

    def take_topic(self, topic: str, take: Callable[[Dict[str, Any]], None]) -> None:
        """Messages of the topic go to `take`, on the reading thread; where it raises ValueError they are garbage."""
        self._takers[topic] = take

    def take(self, data: Any) -> None:
        """Take one message, whatever it is."""
        try:
            self._read(json.loads(data) if isinstance(data, str) else None)
        except (ValueError, RecursionError) as error:
            self._counts.garbage += 1
            LOG.debug("ignored: %s", error)

    def _read(self, message: Any) -> None:
        operation = message.get("op") if isinstance(message, dict) else None
        if operation == "publish":
            self._hand_over(message)
        elif operation == "service_response":
            self._calls.answer(message)
        elif operation == "status":
            self._note(message)
        else:
            raise ValueError(f"the operation {operation!r} is not known here")

    def _hand_over(self, message: Mapping[str, Any]) -> None:
        take, body = self._takers.get(str(message.get("topic"))), message.get("msg")
        if take is None or not isinstance(body, dict):
            raise ValueError(f"no message of a subscribed topic: {str(message)[:LONGEST]}")
        take(body)
        self._counts.received += 1

    def _note(self, message: Mapping[str, Any]) -> None:
        level, text = str(message.get("level")), str(message.get("msg"))[:LONGEST]
        repeated = bool(self.errors) and self.errors[-1] == text  # as one for each message of a topic
        if level in ("error", "warning") and not repeated:
            self.errors.append(text)
            LOG.warning("rosbridge says (%s): %s", level, text)
