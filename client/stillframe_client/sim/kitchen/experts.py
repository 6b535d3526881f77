"""Scripted experts of the kitchen: the next action from the state alone, without phases and without sums.

Knows no MuJoCo and no episode. Whatever a label turns on can be seen: how far the fingers have closed, how high the
thing is and over what, which part of the stain is left.
"""

from __future__ import annotations

import numpy as np

from stillframe_client.sim.experts import GRASP_ABOVE_CUBE_M, between_fingers, pick_up
from stillframe_client.sim.kitchen.state import (
    BOX,
    PAN,
    POT,
    REST_HEIGHT_M,
    SPONGE,
    SPONGE_HALF_M,
    KitchenState,
)
from stillframe_client.sim.kitchen.tasks import KitchenTask, inside
from stillframe_client.sim.servo import CLOSE, OPEN, above, flat_distance, rise, toward
from stillframe_client.sim.state import Vector

TRAVEL_HEIGHT_M = 0.15
HELD_RAD = (0.72, 0.90)  # fingers that begin to press, and that hold
LIFTED_M = (0.02, 0.05)  # above where it lay: it begins to go aside, and does so with all its speed
CARRY_M = 0.07  # above the height at which it is let go
NEARING_M = (0.01, 0.06)  # from the goal's middle: low, and high
RELEASE_M = {BOX: 0.078, PAN: 0.058}  # of the tool, so that opening fingers clear the walls
OVER_M = 0.018  # near enough to the goal's middle to let go
LOW_M = 0.014  # near enough to the height at which it is let go
WIPE_M = SPONGE_HALF_M[2] + 0.002
AHEAD_M = 0.016  # beyond the next cell, where the sponge's middle goes
SKIM_M, SKIMMING_M = 0.04, (0.04, 0.09)  # higher by so much, so far from there


def kitchen_action(state: KitchenState, task: KitchenTask) -> Vector:
    """Return the action [7] for a task: metres and radians per control step, gripper 0 closes, 1 opens."""
    grasp = state.grasp(task.moved)
    if task.moved == POT:
        return pick_up(state, _as_cube(grasp))
    if task.goal is not None and inside(state, task):
        return toward(state, above(state.tool_pos, TRAVEL_HEIGHT_M), OPEN)
    if not between_fingers(state, _as_cube(grasp)):
        return pick_up(state, _as_cube(grasp))
    return _wipe(state, grasp) if task.moved == SPONGE else _put(state, task, grasp)


def _as_cube(grasp: Vector) -> Vector:
    """The centre [3] of a cube that would be grasped with the tool there."""
    return np.asarray(grasp - [0.0, 0.0, GRASP_ABOVE_CUBE_M])


def _put(state: KitchenState, task: KitchenTask, grasp: Vector) -> Vector:
    """Held or about to be: lift it, carry it over its goal, let go."""
    thing, goal, low = state.pos[task.moved], state.pos[task.goal or ""], RELEASE_M[task.goal or ""]
    over = state.tool_pos + (goal - thing)
    away = flat_distance(thing, goal)
    if away < OVER_M and state.tool_pos[2] < low + LOW_M:
        return toward(state, above(over, low), OPEN)
    held = rise(state.finger_angle, *HELD_RAD)
    lifted = rise(thing[2] - REST_HEIGHT_M[task.moved], *LIFTED_M)
    target = grasp + lifted * (over - grasp)
    high = low + CARRY_M * rise(away, *NEARING_M)
    return toward(state, above(target, grasp[2] + held * (high - grasp[2])), CLOSE)


def _wipe(state: KitchenState, grasp: Vector) -> Vector:
    """Held or about to be: to the left end of what is left of the stain, and along it."""
    sponge = state.pos[SPONGE]
    left = [cell for cell, wiped in zip(state.stain, state.wiped, strict=True) if not wiped]
    if not left:
        return toward(state, above(state.tool_pos, TRAVEL_HEIGHT_M), CLOSE)
    aim = left[0] + [0.0, AHEAD_M, 0.0]
    height_m = WIPE_M + SKIM_M * rise(flat_distance(sponge, aim), *SKIMMING_M)
    held = rise(state.finger_angle, *HELD_RAD)
    return toward(state, grasp + held * (np.array([*aim[:2], height_m]) - sponge), CLOSE)
