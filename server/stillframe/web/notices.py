"""Tells the log once of each way in which clients' pictures were understood, for wires whose answers cannot say it.

Knows no wire.
"""

from __future__ import annotations

import reprlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from logging import Logger, getLogger

MOST = 32  # ways that are told: clients make up keys, and the log is not theirs to fill


@dataclass
class Notices:
    """What was told already. Any thread: at worst a line comes twice."""

    log: Logger = field(default_factory=lambda: getLogger(__name__))
    _told: set[tuple[tuple[str, str], ...]] = field(default_factory=set)

    def cameras(self, dialect: str, keys: Mapping[str, str]) -> None:
        """A frame's cameras and the keys that their pictures came under, where those are other names."""
        way = (("", dialect), *keys.items())
        if not keys or way in self._told or len(self._told) >= MOST:
            return
        self._told.add(way)
        said = ", ".join(f"{camera} is {reprlib.repr(key)}" for camera, key in keys.items())
        self.log.info("cameras of %s frames: %s", dialect, said)
