"""What a load is: how many robots, how often, for how long, over which wire.

Knows no connection and no clock.
"""

from __future__ import annotations

import math
import random
from dataclasses import dataclass
from typing import Literal

from stillframe.errors import ConfigError

TransportName = Literal["stream", "http", "openpi"]
Phases = Literal["random", "even", "together"]


@dataclass(frozen=True)
class Load:
    """So many robots, each with a session and a period of its own; `flood` more send as fast as they can."""

    robots: int = 8
    hz: float = 5.0
    seconds: float = 10.0
    wire: TransportName = "stream"
    realtime: bool = False  # of a session's frames the newest wins; else each keeps its turn
    flood: int = 0
    deadline_ms: float = 200.0  # an answer after that, counted from when its frame was due, is a miss
    max_age_ms: float | None = None  # what the frames say of it; None: nothing, so they are computed however late
    phases: Phases = "random"  # how the robots' periods lie to each other
    seed: int = 0  # of random phases

    def __post_init__(self) -> None:
        if self.realtime and self.wire == "openpi":
            raise ConfigError("--realtime: openpi's wire answers frame after frame; use --wire stream or http")
        if not (math.isfinite(self.hz) and 0 < self.hz <= 1000):
            raise ConfigError(f"--hz {self.hz:g}: expected frames a second, above 0 and at most 1000")
        if self.frames < 1:
            raise ConfigError(f"--seconds {self.seconds:g}: too short for a frame at {self.hz:g} Hz")

    @property
    def frames(self) -> int:
        """Of each robot."""
        return round(self.hz * self.seconds)

    @property
    def period_s(self) -> float:
        """From one frame of a robot to its next."""
        return 1 / self.hz

    def offsets_s(self) -> list[float]:
        """When each robot's first frame is due, from the start."""
        rng = random.Random(self.seed)  # noqa: S311 (spreads robots in time, hides nothing)
        shares = {
            "random": [rng.random() for _ in range(self.robots)],
            "even": [index / self.robots for index in range(self.robots)],
            "together": [0.0] * self.robots,
        }
        return [share * self.period_s for share in shares[self.phases]]
