"""The kitchen's experts as the player of episodes.

Knows the simulator, which they read the truth from; asks for pictures only to be filmed.
"""

from __future__ import annotations

from stillframe_client.sim.scene import CAMERAS
from stillframe_lab.kitchen.simulator import KitchenSimulator
from stillframe_lab.libero.episode import Answers, Draw
from stillframe_lab.libero.pictures import Vector
from stillframe_lab.libero.process import Reading, Scene


class KitchenExpert:
    """Implements libero.episode.Player."""

    def __init__(self, simulator: KitchenSimulator, *, filmed: bool = False):
        self._simulator, self._filmed = simulator, filmed

    def begin(self, scene: Scene) -> None:
        """Nothing is remembered."""

    def action(self, reading: Reading, draw: Draw) -> Vector:  # noqa: ARG002 (the truth is asked for)
        """By the true poses."""
        if self._filmed:
            draw(tuple(CAMERAS))
        return self._simulator.expert()

    def taken(self) -> Answers:
        """None: it answers no frames."""
        return Answers()
