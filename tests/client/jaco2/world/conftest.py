"""A room whose time is the test's: building a scene takes longer than most tests.

Knows no test; every test begins with its own reset.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from stillframe_client.jaco2.ceilings import TICK_S
from stillframe_client.jaco2.config import load
from stillframe_client.jaco2.domain import Twist
from stillframe_client.jaco2.world.room import Room


class Clocked:
    """A room and its time."""

    def __init__(self) -> None:
        self.now_s = 0.0
        self.room = Room(self.now_s)

    def play(self, twist: Twist | None, points: int = 1) -> None:
        """Send the twist for so many points of 10 ms, or nothing."""
        for _ in range(points):
            if twist is not None:
                self.room.command(twist)
            self.now_s += TICK_S
            self.room.advance(self.now_s)

    def begin(self, seed: int = 0, **options: str) -> dict[str, Any]:
        """Reset, let commands in, and wait for the report of it."""
        told = self.room.reset(seed, options)
        self.room.start()
        self.play(None, 10)
        return told


@pytest.fixture(scope="session")
def clocked() -> Clocked:
    """A room for all tests of a worker."""
    return Clocked()


@pytest.fixture
def twist() -> Callable[..., Twist]:
    """Make a twist: linear [3], angular [3], closure."""

    def make(linear: Any = (0, 0, 0), angular: Any = (0, 0, 0), closure: float = 0.0) -> Twist:
        return Twist(np.array(linear, float), np.array(angular, float), closure)

    return make


@pytest.fixture(scope="session")
def settings() -> Any:
    """configs/jaco2-sim.toml."""
    from pathlib import Path

    return load(Path(__file__).parents[4] / "configs" / "jaco2-sim.toml")
