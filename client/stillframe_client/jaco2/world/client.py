"""Asks a simulated world about its episode: reset, verdict, the expert's action, lateness. For evaluations and tests.

Knows no physics and no arm. A bridge needs nothing of it.
"""

from __future__ import annotations

import socket
from typing import Any, Dict, Mapping

from stillframe_client.jaco2.world import wire

ANSWER_S = 10.0


class WorldClient:
    """One connection for questions; close it."""

    def __init__(self, path: str, timeout_s: float = ANSWER_S):
        """Connect. Raises WorldError."""
        self._end = wire.dial(path, wire.Hello(wire.EPISODES), timeout_s)
        self._end.settimeout(timeout_s)

    def reset(self, seed: int, options: Mapping[str, str] = {}) -> Dict[str, Any]:
        """Begin an episode; the arm is stopped, and a bridge has to be armed anew. Returns what verdict() does."""
        return self._ask({"ask": "reset", "seed": seed, "options": dict(options)})

    def verdict(self) -> Dict[str, Any]:
        """instruction, success, wrong_object, done, steps (control periods since the arm first moved), seed, colour."""
        return self._ask({"ask": "verdict"})

    def expert(self) -> Dict[str, Any]:
        """The scripted expert's `action` [7] for one control period, `tool_m` [3] and `finger` in radians."""
        return self._ask({"ask": "expert"})

    def report(self) -> Dict[str, Any]:
        """`late_ms` of the world's beats since the last report, and what the driver counted."""
        return self._ask({"ask": "report"})

    def close(self) -> None:
        """Hang up."""
        self._end.close()

    def _ask(self, message: Dict[str, Any]) -> Dict[str, Any]:
        try:
            self._end.send(wire.pack_message(message))
            answer = wire.read_message(self._end.recv(wire.LONGEST))
        except socket.timeout as error:
            raise wire.WorldError(f"the simulated world did not answer {message['ask']!r} in time") from error
        except (OSError, ValueError) as error:
            raise wire.WorldError(f"the simulated world is gone: {error}") from error
        if "error" in answer:
            raise wire.WorldError(f"the simulated world refuses {message['ask']!r}: {answer['error']}")
        return answer
