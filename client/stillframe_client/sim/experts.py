"""Scripted experts: the next action from the state alone, one control law per task, without phases.

Knows no MuJoCo and no episode. Labels vary smoothly with what a camera can see (positions, finger opening), so that a
policy cannot learn a constant as a password for "I am lifting now": even while it closes and lifts, the expert goes on
centring on the cube and levelling the tool.
"""

from __future__ import annotations

import numpy as np

from stillframe_client.sim.state import CUBE_HALF_M, MAX_SPEED_M_S, MAX_TURN_RAD_S, SceneState, Vector
from stillframe_client.sim.tasks import DIRECTIONS, Goal

RATE_PER_S = 4.5  # how fast an error is worked off
CAUTION = 0.9  # of the maximum speed
OPEN, CLOSE = 1.0, 0.0

GRASP_ABOVE_CUBE_M = 0.018  # tool above the cube's centre in a good grasp
CARRY_HEIGHT_M = 0.25
LIFT_SHARE = 0.4  # of the height still missing, aimed at in one step: it slows down on the way, and never repeats
HOVER_HEIGHT_M = 0.095
TRAVEL_HEIGHT_M = 0.135

FIST_ABOVE_CUBE_M = 0.014
FIST_LOW_M = 0.04  # above the cube's centre: low enough to hit its side
FIST_ASTRAY_M = 0.02
BEHIND_M = 0.070  # where a push begins: half a cube, half a fist and some air
SWEEP_STEP_M = 0.035


def expert_action(state: SceneState, task: str, colour: str, direction: str | None = None) -> Vector:
    """Return the action [7] for a goal: metres and radians per control step, gripper 0 close to 1 open.

    A pure function of the state. Raises ValueError for an unknown task, colour or direction.
    """
    goal = Goal(task, colour, direction).stages[0]
    cube = state.cube_pos[goal.colour]
    if goal.task == "push":
        return _push(state, cube, DIRECTIONS[goal.direction or ""])
    return _pick(state, cube) if goal.task == "pick" else _reach(state, cube)


def _reach(state: SceneState, cube: Vector) -> Vector:
    away = _flat_distance(state.tool_pos, cube)
    height = HOVER_HEIGHT_M + (TRAVEL_HEIGHT_M - HOVER_HEIGHT_M) * _rise(away, 0.02, 0.09)
    return _toward(state, _above(cube, height), OPEN)


def _pick(state: SceneState, cube: Vector) -> Vector:
    held = _rise(state.finger_angle, 0.72, 0.90)  # 0 while the fingers still close, 1 once they press on the cube
    if _between_fingers(state, cube):
        settle_m = cube[2] + GRASP_ABOVE_CUBE_M - state.tool_pos[2]
        lift_m = LIFT_SHARE * (CARRY_HEIGHT_M - state.tool_pos[2])
        height = state.tool_pos[2] + settle_m + held * (lift_m - settle_m)
        return _toward(state, _above(cube, height), CLOSE)
    away = _flat_distance(state.tool_pos, cube)
    funnel = cube[2] + GRASP_ABOVE_CUBE_M + 0.09 * _rise(away, 0.008, 0.055, smooth=False)
    closed = _rise(state.finger_angle, 0.45, 0.75)  # descend on a cube with open fingers only
    height = funnel + closed * max(0.0, TRAVEL_HEIGHT_M - funnel)
    return _toward(state, _above(cube, height), OPEN)


def _between_fingers(state: SceneState, cube: Vector) -> bool:
    """Whether closing, or staying closed, is right: the more the fingers have closed, the more slack is forgiven."""
    offset = state.tool_pos - cube
    closing = _rise(state.finger_angle, 0.30, 0.60)
    radius_m = 0.016 + 0.018 * closing
    above_m = abs(offset[2] - GRASP_ABOVE_CUBE_M)
    return bool(np.hypot(offset[0], offset[1]) < radius_m and above_m < 0.014 + 0.018 * closing)


def _push(state: SceneState, cube: Vector, side: float) -> Vector:
    if any(_between_fingers(state, other) for other in state.cube_pos.values()):
        return _toward(state, _above(state.tool_pos, TRAVEL_HEIGHT_M), OPEN)  # let go of it, up and away
    ahead = side * (state.tool_pos[1] - cube[1])  # negative behind the cube
    astray = abs(state.tool_pos[0] - cube[0])
    if astray < FIST_ASTRAY_M and ahead < -CUBE_HALF_M and state.tool_pos[2] < FIST_LOW_M + cube[2]:
        sweep = np.array([cube[0], state.tool_pos[1] + side * SWEEP_STEP_M, cube[2] + FIST_ABOVE_CUBE_M])
        return _toward(state, sweep, CLOSE)
    behind = cube - np.array([0.0, side * BEHIND_M, 0.0])
    down = cube[2] + FIST_ABOVE_CUBE_M
    is_open = 1 - _rise(state.finger_angle, 0.8, 1.1)  # go down as a fist only
    up = max(is_open, _rise(_flat_distance(state.tool_pos, behind), 0.012, 0.05))
    return _toward(state, _above(behind, down + up * (TRAVEL_HEIGHT_M - down)), CLOSE)


def _above(spot: Vector, height_m: float) -> Vector:
    return np.array([spot[0], spot[1], height_m])


def _toward(state: SceneState, target_m: Vector, gripper: float) -> Vector:
    """One step: to the target [3], and back to the upright home orientation."""
    shift = _worked_off(target_m - state.tool_pos, MAX_SPEED_M_S, state.hz)
    turn = _worked_off(-state.tool_turn, MAX_TURN_RAD_S, state.hz)
    return np.concatenate([shift, turn, [gripper]])


def _worked_off(error: Vector, most_per_s: float, hz: int) -> Vector:
    """Proportional to a small error, levelling off below the limit: each axis by itself, and no value twice."""
    most = CAUTION * most_per_s / hz
    return np.asarray(most * np.tanh(min(1.0, RATE_PER_S / hz) * error / most))


def _flat_distance(tool: Vector, cube: Vector) -> float:
    return float(np.hypot(tool[0] - cube[0], tool[1] - cube[1]))


def _rise(value: float, low: float, high: float, *, smooth: bool = True) -> float:
    """0 below `low`, 1 above `high`; between them an S, or a straight line."""
    part = float(np.clip((value - low) / (high - low), 0.0, 1.0))
    return part * part * (3 - 2 * part) if smooth else part
