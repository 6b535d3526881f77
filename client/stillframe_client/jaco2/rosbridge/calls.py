"""Calls of services that are not answered yet.

Knows no socket. A call ends once: by its answer, by its caller, or with its connection.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from typing import Any, Callable, Dict, Mapping

LONGEST = 500  # characters of a reason


@dataclass(frozen=True)
class Reply:
    """How a call ended."""

    error: str = ""  # empty: it was done
    values: Mapping[str, Any] = field(default_factory=dict)


class Calls:
    """Numbers calls, and hands each reply to its caller."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._made = 0
        self._open: Dict[str, Callable[[Reply], None]] = {}

    def new(self, service: str, done: Callable[[Reply], None]) -> str:
        """The id of a new call; `done` must not wait."""
        with self._lock:
            self._made += 1
            name = f"call:{service}:{self._made}"
            self._open[name] = done
        return name

    def answer(self, message: Mapping[str, Any]) -> None:
        """Take a service_response. Raises ValueError for one of no call that waits."""
        if not self.end(str(message.get("id")), _reply(message)):
            raise ValueError(f"an answer to {message.get('id')!r}, which is not waited for")

    def end(self, name: str, reply: Reply) -> bool:
        """End a call; False where it has ended before."""
        with self._lock:
            done = self._open.pop(name, None)
        if done is not None:
            done(reply)
        return done is not None

    def end_all(self, reply: Reply) -> None:
        """End all that wait."""
        with self._lock:
            waiting, self._open = list(self._open.values()), {}
        for done in waiting:
            done(reply)


def _reply(message: Mapping[str, Any]) -> Reply:
    values = message.get("values")
    if message.get("result") is True:
        return Reply("", values if isinstance(values, dict) else {})
    return Reply(f"rosbridge says: {str(values or 'no reason given')[:LONGEST]}")
