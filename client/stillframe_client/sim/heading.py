"""Which cube the arm made for: the one that its tool approached most in its first free steps.

Knows positions only; no goal.
"""

from __future__ import annotations

import numpy as np

from stillframe_client.sim.state import COLOURS, SceneState, Vector

COMMITTED_STEPS = 5


class Heading:
    """Follows the tool from the moment at which it may move."""

    def __init__(self, start: SceneState):
        self._before = _distances_m(start)
        self._steps = 0
        self.colour: str | None = None  # known after COMMITTED_STEPS, and kept

    def follow(self, state: SceneState) -> None:
        """Look at the state after one free step; call once a step."""
        self._steps += 1
        if self._steps == COMMITTED_STEPS:
            self.colour = COLOURS[int(np.argmax(self._before - _distances_m(state)))]


def _distances_m(state: SceneState) -> Vector:
    """Over the table, from the tool to each cube [3]: height says nothing about which."""
    away = np.stack([state.tool_pos - state.cube_pos[colour] for colour in COLOURS])
    return np.hypot(away[:, 0], away[:, 1])
