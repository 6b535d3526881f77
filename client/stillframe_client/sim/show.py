"""What the lamps of one episode show at each step: a schedule, or a single flash on request.

Knows no goal and no picture. An episode with nothing to remember has a Show too: no lamp, no frozen step.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from stillframe_client.sim.cues import Cueing, Flash, Schedule
from stillframe_client.sim.lamps import GREY, NO_LAMPS, WHITE, Lamps
from stillframe_client.sim.shapes import Shape
from stillframe_client.sim.state import COLOURS, SceneState


class Show:
    """One episode's lamps."""

    def __init__(self, lamps: Lamps = NO_LAMPS, schedule: Schedule | None = None):
        self.lamps = lamps
        self._schedule = schedule or Schedule()
        self.turn(0, reached=0)

    @classmethod
    def drawn(cls, rng: np.random.Generator, cueing: Cueing, meant: Sequence[str], start: SceneState) -> Show:
        """Lamps between the cubes, and a schedule that shows the colours that are meant."""
        cubes_m = np.stack([start.cube_pos[colour] for colour in COLOURS])
        lamps = Lamps.drawn(rng, cueing.variant.lamps, cubes_m)
        return cls(lamps, Schedule.drawn(rng, cueing, meant))

    @property
    def frozen_steps(self) -> int:
        """After so many steps the arm is free."""
        return self._schedule.frozen_steps

    @property
    def lit(self) -> Flash | None:
        """What is to be seen now; None: no lamp is lit."""
        return self._lit

    def turn(self, step: int, reached: int) -> None:
        """Show what is due after `step` steps. At rest lamps are grey, and white once the first of two is reached."""
        self.light(self._schedule.at(step), WHITE if reached else GREY)

    def light(self, flash: Flash | None, rest: str = GREY) -> None:
        """Let one lamp flash, or none; the others show `rest`, grey or white."""
        self._lit, self._rest = flash, rest

    def shapes(self) -> list[Shape]:
        """The lamps as they look now."""
        return self.lamps.shapes(self._lit, self._rest)
