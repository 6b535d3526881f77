"""Takes an object and puts it: approach, close, carry, open; what slips is taken again, and a hand that is stuck rises.

Knows a job's points and the hand; no suite. All gains were found by trying, on LIBERO's controller at 20 Hz.
"""

from __future__ import annotations

from enum import Enum, auto

import numpy as np

from stillframe_lab.libero.expert.geometry import DOWN, turn_between, turn_of, yawed
from stillframe_lab.libero.expert.jobs import Job
from stillframe_lab.libero.pictures import Vector
from stillframe_lab.libero.process import Reading

OPEN, CLOSED = -1.0, 1.0
GAIN = 14.0  # of a metre: 71 mm away is full speed
FRICTION, FELT_M = 0.3, 0.004  # of full speed, added to any move of more: the arm swallows what is smaller
TURN_GAIN, MOST_TURN = 2.0, 0.5
STEP_S = 0.05
ABOVE_M = 0.10  # the hand comes from so far above at most
NEAR_M = 0.012  # no slope nearer than this
CLIMB_M = 0.03  # with more to climb it slows down sideways; with twice as much it stops
AT_GOAL_M, OVER_GOAL_M = 0.010, 0.012
CLOSE_TO_GOAL_M, CLOSE_STEPS = 0.035, 30  # a tilted bowl never comes flat: after so many steps it is let go
STAY_HIGH_M = 0.10  # from the goal: what was lifted is not lowered before
CLEAR_M = 0.03  # over where it was taken
STILL_M_S, FEWEST_STEPS, MOST_STEPS = 0.02, 4, 16  # of closing; a bowl that is lifted sooner drops
LOST_M, EMPTY_M = 0.035, 0.0015
SLOW_M, SLOW_STEPS = 0.03, 16  # so near the grasp for so long: friction holds the arm some millimetres off
SLOW_CARRY_STEPS = 6  # and so long, within CLOSE_TO_GOAL_M of where the object is let go: stretched out, up to 30
PUSH, MOST_PUSH_M = 0.3, 0.03  # then the error is summed up, as so many metres at most
STUCK_STEPS, RISE_STEPS = 40, 12  # so near the grasp for so long in vain: so many steps up
OPEN_STEPS = 15
HELD_M, NOT_OPEN_M, LIFTED_M = 0.025, 0.070, 0.015  # what another holds: near the hand, by closing fingers, higher


class Phase(Enum):
    """What the hand is at."""

    APPROACH = auto()
    RISE = auto()
    CLOSE = auto()
    CARRY = auto()
    OPEN = auto()


class PickAndPlace:
    """One episode of a job."""

    def __init__(self, job: Job):
        self._job, self.phase = job, Phase.APPROACH
        self._fingers_m = 0.0
        self._steps = 0  # in this phase; in CARRY and APPROACH those close to where it ends
        self._push_m = np.zeros(3)
        self._closes_at = np.zeros(3)
        self._in_hand_m = 0.0  # from the hand to the object as it was lifted
        self._taken_z_m = 0.0  # where that was

    @classmethod
    def taking_over(cls, job: Job, started: Reading, now: Reading) -> PickAndPlace:
        """Go on where another was: what it holds is carried on. `started`: as the episode began."""
        expert, at = cls(job), job.carried(now)[2]
        holds = np.linalg.norm(job.grasp(now) - now.position) < HELD_M and _opening_m(now) < NOT_OPEN_M
        expert._taken_z_m, expert._closes_at = float(job.carried(started)[2]), job.grasp(now)
        if holds and at > expert._taken_z_m + LIFTED_M:
            expert._in_hand_m = expert._from_hand_m(now)
            expert._enter(Phase.CARRY)
        elif holds:
            expert._enter(Phase.CLOSE)
        return expert

    def action(self, reading: Reading) -> Vector:
        """The action [7] of this step."""
        fingers_m = _opening_m(reading)
        speed_m_s, self._fingers_m = abs(fingers_m - self._fingers_m) / 2 / STEP_S, fingers_m
        move, gripper = self._next(reading, speed_m_s)
        speed = GAIN * move + FRICTION * move / max(float(np.linalg.norm(move)), FELT_M)
        turn = turn_between(turn_of(reading.quaternion), yawed(self._job.yaw_rad) @ DOWN)
        return np.concatenate(
            [speed / max(1.0, np.abs(speed).max()), np.clip(TURN_GAIN * turn, -MOST_TURN, MOST_TURN), [gripper]]
        )

    def _next(self, reading: Reading, speed_m_s: float) -> tuple[Vector, float]:
        """How far to move [3], and the gripper."""
        if self.phase is Phase.CARRY and self._lost(reading):
            self._enter(Phase.APPROACH)
        if self.phase is Phase.APPROACH:
            return self._approach(reading)
        if self.phase is Phase.RISE:
            return self._rise(reading)
        if self.phase is Phase.CLOSE:
            return self._close(reading, speed_m_s)
        if self.phase is Phase.CARRY:
            return self._carry(reading)
        self._steps += 1
        if self._steps > OPEN_STEPS:
            self._enter(Phase.APPROACH)
        return np.zeros(3), OPEN

    def _enter(self, phase: Phase) -> None:
        self.phase, self._steps, self._push_m = phase, 0, np.zeros(3)

    def _approach(self, reading: Reading) -> tuple[Vector, float]:
        """Down a funnel to where the hand closes."""
        apart = self._job.grasp(reading) - reading.position
        distance_m = float(np.hypot(*apart[:2]))
        self._steps += distance_m < SLOW_M
        if distance_m < self._job.close_m and abs(apart[2]) < self._job.close_m:
            self._enter(Phase.CLOSE)
            self._closes_at = self._job.grasp(reading)
        if self._steps > SLOW_STEPS:
            self._push(apart)
        if self._steps > STUCK_STEPS:
            self._enter(Phase.RISE)
        return self._push_m + _climbed(apart + _up(min(ABOVE_M, 2 * max(0.0, distance_m - NEAR_M)))), OPEN

    def _rise(self, reading: Reading) -> tuple[Vector, float]:
        """Straight above the grasp: from there it comes down without what it had sideways."""
        self._steps += 1
        if self._steps > RISE_STEPS:
            self._enter(Phase.APPROACH)
        return self._job.grasp(reading) - reading.position + _up(ABOVE_M), OPEN

    def _close(self, reading: Reading, speed_m_s: float) -> tuple[Vector, float]:
        """Wait for the fingers, where the object was; a hand that is not told to stay sinks on."""
        self._steps += 1
        if (self._steps > FEWEST_STEPS and speed_m_s < STILL_M_S) or self._steps >= MOST_STEPS:
            self._in_hand_m, self._taken_z_m = self._from_hand_m(reading), float(self._job.carried(reading)[2])
            self._enter(Phase.CARRY)
        return self._closes_at - reading.position, CLOSED

    def _carry(self, reading: Reading) -> tuple[Vector, float]:
        """Up, over, and down a funnel to where it is let go."""
        carried, goal = self._job.carried(reading), self._job.goal(reading)
        apart = goal - carried
        distance_m = float(np.hypot(*apart[:2]))
        self._steps += distance_m < CLOSE_TO_GOAL_M
        if (distance_m < AT_GOAL_M and abs(apart[2]) < OVER_GOAL_M) or self._steps > CLOSE_STEPS:
            self._enter(Phase.OPEN)
            return np.zeros(3), OPEN
        height_m = goal[2] + min(self._job.hover_m, 1.6 * max(0.0, distance_m - NEAR_M))
        if distance_m > STAY_HIGH_M:
            height_m = max(height_m, self._taken_z_m + CLEAR_M, self._job.lift_z_m)
        move = np.array([*apart[:2], height_m - carried[2]])
        if self._steps > SLOW_CARRY_STEPS:
            self._push(move)
        return self._push_m + _climbed(move), CLOSED

    def _push(self, apart: Vector) -> None:
        """Sum up what is left, which friction will not let the hand go."""
        self._push_m = np.clip(self._push_m + PUSH * apart, -MOST_PUSH_M, MOST_PUSH_M)

    def _lost(self, reading: Reading) -> bool:
        """Whether the object has come away from the hand, or the fingers have met. A bowl may tilt in them."""
        moved_m = abs(self._from_hand_m(reading) - self._in_hand_m)
        return bool(moved_m > LOST_M) or _opening_m(reading) < 2 * EMPTY_M

    def _from_hand_m(self, reading: Reading) -> float:
        return float(np.linalg.norm(self._job.carried(reading) - reading.position))


def _opening_m(reading: Reading) -> float:
    """Between the fingers."""
    return float(reading.fingers[0] - reading.fingers[1])


def _up(height_m: float) -> Vector:
    return np.array([0.0, 0.0, height_m])


def _climbed(move: Vector) -> Vector:
    """The move, without its sideways part while it has far to climb."""
    share = float(np.clip(2.0 - move[2] / CLIMB_M, 0.0, 1.0))
    slowed: Vector = move * np.array([share, share, 1.0])
    return slowed
