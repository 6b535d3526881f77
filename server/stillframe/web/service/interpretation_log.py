"""Logs each camera mapping and input warning once, for wires whose replies cannot carry them.

Knows no wire.
"""

from __future__ import annotations

import reprlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from logging import Logger, getLogger

MAX_LINES = 32  # clients choose keys and words: they cannot fill the log
_LONGEST = 200  # characters of a line


@dataclass
class InterpretationLog:
    """Remembers the lines logged. Any thread: at worst a line is logged twice."""

    log: Logger = field(default_factory=lambda: getLogger(__name__))
    _logged: set[str] = field(default_factory=set)

    def record(self, dialect: str, cameras: Mapping[str, str], warnings: Sequence[str]) -> None:
        """Log which key was which camera's picture, where they differ, and the frame's warnings."""
        if cameras:
            said = ", ".join(f"{camera} is {reprlib.repr(key)}" for camera, key in cameras.items())
            self._log_once(f"cameras of {dialect} frames: {said}")
        for warning in warnings:
            self._log_once(f"{dialect} frames: {warning}")

    def _log_once(self, line: str) -> None:
        line = line[:_LONGEST]
        if line not in self._logged and len(self._logged) < MAX_LINES:
            self._logged.add(line)
            self.log.info("%s", line)
