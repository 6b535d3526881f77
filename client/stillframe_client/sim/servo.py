"""How an expert moves: one step towards a place, back to the upright orientation, no axis faster than its limit.

Knows the arm's state and numbers; no task.
"""

from __future__ import annotations

import numpy as np

from stillframe_client.sim.state import MAX_SPEED_M_S, MAX_TURN_RAD_S, ToolState, Vector

RATE_PER_S = 4.5  # how fast an error is worked off
CAUTION = 0.9  # of the maximum speed
OPEN, CLOSE = 1.0, 0.0


def above(spot: Vector, height_m: float) -> Vector:
    """The point [3] at that height over a spot."""
    return np.array([spot[0], spot[1], height_m])


def toward(state: ToolState, target_m: Vector, gripper: float) -> Vector:
    """One step: to the target [3], and back to the upright home orientation."""
    shift = _worked_off(target_m - state.tool_pos, MAX_SPEED_M_S, state.hz)
    turn = _worked_off(-state.tool_turn, MAX_TURN_RAD_S, state.hz)
    return np.concatenate([shift, turn, [gripper]])


def _worked_off(error: Vector, most_per_s: float, hz: int) -> Vector:
    """Proportional to a small error, levelling off below the limit: each axis by itself, and no value twice."""
    most = CAUTION * most_per_s / hz
    return np.asarray(most * np.tanh(min(1.0, RATE_PER_S / hz) * error / most))


def flat_distance(tool: Vector, cube: Vector) -> float:
    """Over the table."""
    return float(np.hypot(tool[0] - cube[0], tool[1] - cube[1]))


def rise(value: float, low: float, high: float, *, smooth: bool = True) -> float:
    """0 below `low`, 1 above `high`; between them an S, or a straight line."""
    part = float(np.clip((value - low) / (high - low), 0.0, 1.0))
    return part * part * (3 - 2 * part) if smooth else part
