"""Scripted experts: the next action from the state alone, one control law per task, without phases.

Knows no MuJoCo and no episode. Labels vary smoothly with what a camera can see (positions, finger opening), so that a
policy cannot learn a constant as a password for "I am lifting now": even while it closes and lifts, the expert goes on
centring on the cube and levelling the tool.
"""

from __future__ import annotations

import numpy as np

from stillframe_client.sim.servo import CLOSE, OPEN, above, flat_distance, rise, toward
from stillframe_client.sim.state import CUBE_HALF_M, SceneState, ToolState, Vector
from stillframe_client.sim.tasks import DIRECTIONS, Goal

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
    return pick_up(state, cube) if goal.task == "pick" else _reach(state, cube)


def _reach(state: SceneState, cube: Vector) -> Vector:
    away = flat_distance(state.tool_pos, cube)
    height = HOVER_HEIGHT_M + (TRAVEL_HEIGHT_M - HOVER_HEIGHT_M) * rise(away, 0.02, 0.09)
    return toward(state, above(cube, height), OPEN)


def pick_up(state: ToolState, cube: Vector) -> Vector:
    """The action [7] that grasps and lifts what is grasped as a cube at [3] is, with the tool a little above it."""
    held = rise(state.finger_angle, 0.72, 0.90)  # 0 while the fingers still close, 1 once they press on the cube
    if between_fingers(state, cube):
        settle_m = cube[2] + GRASP_ABOVE_CUBE_M - state.tool_pos[2]
        lift_m = LIFT_SHARE * (CARRY_HEIGHT_M - state.tool_pos[2])
        height = state.tool_pos[2] + settle_m + held * (lift_m - settle_m)
        return toward(state, above(cube, height), CLOSE)
    away = flat_distance(state.tool_pos, cube)
    funnel = cube[2] + GRASP_ABOVE_CUBE_M + 0.09 * rise(away, 0.008, 0.055, smooth=False)
    closed = rise(state.finger_angle, 0.45, 0.75)  # descend on a cube with open fingers only
    height = funnel + closed * max(0.0, TRAVEL_HEIGHT_M - funnel)
    return toward(state, above(cube, height), OPEN)


def between_fingers(state: ToolState, cube: Vector) -> bool:
    """Whether closing, or staying closed, is right: the more the fingers have closed, the more slack is forgiven."""
    offset = state.tool_pos - cube
    closing = rise(state.finger_angle, 0.30, 0.60)
    radius_m = 0.016 + 0.018 * closing
    above_m = abs(offset[2] - GRASP_ABOVE_CUBE_M)
    return bool(np.hypot(offset[0], offset[1]) < radius_m and above_m < 0.014 + 0.018 * closing)


def _push(state: SceneState, cube: Vector, side: float) -> Vector:
    if any(between_fingers(state, other) for other in state.cube_pos.values()):
        return toward(state, above(state.tool_pos, TRAVEL_HEIGHT_M), OPEN)  # let go of it, up and away
    ahead = side * (state.tool_pos[1] - cube[1])  # negative behind the cube
    astray = abs(state.tool_pos[0] - cube[0])
    if astray < FIST_ASTRAY_M and ahead < -CUBE_HALF_M and state.tool_pos[2] < FIST_LOW_M + cube[2]:
        sweep = np.array([cube[0], state.tool_pos[1] + side * SWEEP_STEP_M, cube[2] + FIST_ABOVE_CUBE_M])
        return toward(state, sweep, CLOSE)
    behind = cube - np.array([0.0, side * BEHIND_M, 0.0])
    down = cube[2] + FIST_ABOVE_CUBE_M
    is_open = 1 - rise(state.finger_angle, 0.8, 1.1)  # go down as a fist only
    up = max(is_open, rise(flat_distance(state.tool_pos, behind), 0.012, 0.05))
    return toward(state, above(behind, down + up * (TRAVEL_HEIGHT_M - down)), CLOSE)
