"""The description of a load: how many robots, at what rate, for how long, over which transport.

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
    """Robots that each send at a fixed rate in a session of its own, and `flood` more that send as fast as they can."""

    robots: int = 8
    hz: float = 5.0
    seconds: float = 10.0
    wire: TransportName = "stream"
    realtime: bool = False  # newer frames supersede older ones; else each is answered in order
    flood: int = 0
    deadline_ms: float = 200.0  # a later answer, counted from when its frame was due, is a miss
    max_age_ms: float | None = None  # of the frames; None: not sent, so they are computed however late
    phases: Phases = "random"  # offsets of the robots' periods
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
        """Frames of each robot."""
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
