"""Tells the log once of each way in which frames were understood, for wires whose answers cannot say it.

Knows no wire.
"""

from __future__ import annotations

import reprlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from logging import Logger, getLogger

MOST = 32  # lines that are told: clients make up keys and words, and the log is not theirs to fill
_LONGEST = 200  # characters of one


@dataclass
class Notices:
    """What was told already. Any thread: at worst a line comes twice."""

    log: Logger = field(default_factory=lambda: getLogger(__name__))
    _told: set[str] = field(default_factory=set)

    def frame(self, dialect: str, cameras: Mapping[str, str], warnings: Sequence[str]) -> None:
        """Which key was which camera's picture, where those are other names, and what was odd."""
        if cameras:
            said = ", ".join(f"{camera} is {reprlib.repr(key)}" for camera, key in cameras.items())
            self._tell(f"cameras of {dialect} frames: {said}")
        for warning in warnings:
            self._tell(f"{dialect} frames: {warning}")

    def _tell(self, line: str) -> None:
        line = line[:_LONGEST]
        if line not in self._told and len(self._told) < MOST:
            self._told.add(line)
            self.log.info("%s", line)
