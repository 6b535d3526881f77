"""An expert as the player of episodes.

Knows the suite's jobs and how they are done; asks for pictures only to be filmed.
"""

from __future__ import annotations

from stillframe_lab.libero.episode import Answers, Draw
from stillframe_lab.libero.expert.jobs import job_of
from stillframe_lab.libero.expert.servo import PickAndPlace
from stillframe_lab.libero.pictures import Vector
from stillframe_lab.libero.process import AGENT, Reading, Scene

FILM_EVERY = 4  # steps


class ExpertPlayer:
    """The expert of a suite. Implements episode.Player."""

    def __init__(self, suite: str, *, filmed: bool = False):
        self._suite, self._filmed = suite, filmed

    def begin(self, scene: Scene) -> None:
        """Forget the last episode."""
        self._expert, self._steps = PickAndPlace(job_of(self._suite, scene)), 0

    def action(self, reading: Reading, draw: Draw) -> Vector:
        """By the true poses."""
        if self._filmed and self._steps % FILM_EVERY == 0:
            draw([AGENT])
        self._steps += 1
        return self._expert.action(reading)

    def taken(self) -> Answers:
        """None: it answers no frames."""
        return Answers()
