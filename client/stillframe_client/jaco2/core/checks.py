"""Checks of what comes in: steps of the policy, reports of the arm, and whether the arm does what it is told.

Knows no state of the watchdog; says what is wrong in words.
"""

from __future__ import annotations

import math
from collections import deque
from typing import TYPE_CHECKING, Deque, Optional, Tuple

import numpy as np

from stillframe_client.jaco2 import ceilings, rotations
from stillframe_client.jaco2.ceilings import TICK_S
from stillframe_client.jaco2.core.gripper import is_gripper

if TYPE_CHECKING:
    from stillframe_client.jaco2.core.safety import Motion
    from stillframe_client.jaco2.domain import ArmState, Step, Vector
    from stillframe_client.jaco2.settings import LimitSettings, WatchSettings


UNIT = 0.01  # that the length of a reported orientation may be off


def step_fault(step: Step, limits: LimitSettings) -> str:
    """What makes the step one that is not followed; empty: nothing."""
    numbers = (*step.delta, step.gripper, step.lasts_s, step.deadline_s)
    if len(step.delta) != 6 or not all(map(math.isfinite, numbers)):
        return "the action is not seven finite numbers"
    shift_m, turn_rad = math.hypot(*step.delta[:3]), math.hypot(*step.delta[3:])
    if shift_m > limits.step_m:
        return f"the action moves {shift_m:.3f} m, more than step_m {limits.step_m:g}: is unnorm_key the right one?"
    if turn_rad > limits.step_rad:
        return f"the action turns {turn_rad:.2f} rad, more than step_rad {limits.step_rad:g}: is unnorm_key right?"
    if not is_gripper(step.gripper):
        return f"the gripper is {step.gripper:.3f}; expected 0 closed to 1 open"
    if not TICK_S <= step.lasts_s <= ceilings.SETPOINT_S:
        return f"the action lasts {step.lasts_s:g} s; expected {TICK_S:g} to {ceilings.SETPOINT_S:g}"
    return ""


def pose_fault(arm: ArmState, before: Optional[ArmState], now_s: float, watch: WatchSettings) -> str:
    """What makes a report one that is not believed; empty: nothing. `before`: from where it may not jump."""
    position, orientation = arm.pose.position_m.tolist(), arm.pose.orientation.tolist()
    hand = () if arm.closure is None else (arm.closure,)
    if not all(map(math.isfinite, (*position, *orientation, *hand))):
        return "the arm reports a pose that is not finite"
    if not abs(math.hypot(*orientation) - 1.0) < UNIT:
        return "the arm reports an orientation that is no unit quaternion"
    if math.hypot(*position) > ceilings.REACH_M:
        return f"the arm reports its tool {math.hypot(*position):.2f} m from its base; it reaches {ceilings.REACH_M:g}"
    if not arm.time_s <= now_s + TICK_S:
        return f"the arm's report is of {arm.time_s:.2f} s, which is still to come: it is {now_s:.2f} s"
    return "" if before is None else _jump(arm, before, watch)


def _jump(arm: ArmState, before: ArmState, watch: WatchSettings) -> str:
    past_s = max(arm.time_s - before.time_s, 0.0)
    shift_m = math.hypot(*(arm.pose.position_m - before.pose.position_m))
    turn_rad = math.hypot(*rotations.turn_between(before.pose.orientation, arm.pose.orientation))
    if shift_m > watch.jump_m + ceilings.LINEAR_M_S * past_s:
        return f"the arm's pose jumped by {shift_m:.3f} m in {past_s:.2f} s"
    if turn_rad > watch.jump_rad + ceilings.ANGULAR_RAD_S * past_s:
        return f"the arm's pose jumped by {turn_rad:.2f} rad in {past_s:.2f} s"
    return ""


SEEN_M, SEEN_RAD = 0.01, 0.1  # less than this does not show clearly in what the arm reports


class StallCheck:
    """Whether an arm that is told to move does: singularities, collisions and wrong modes give no other sign."""

    def __init__(self, watch: WatchSettings, latency_s: float, speed: float = 1.0):
        """`speed`: limits.speed; where it is lower, less is commanded within the window, so less has to show."""
        self._watch, self._latency_s = watch, latency_s
        self._least_m = max(watch.stall_m * speed, SEEN_M)
        self._least_rad = max(watch.stall_rad * speed, SEEN_RAD)
        self._told: Deque[Tuple[float, Vector]] = deque(maxlen=1024)  # time, sum [6] of all commands, base frame
        self._sum = np.zeros(6)
        self._reports: Deque[ArmState] = deque(maxlen=1024)

    def clear(self) -> None:
        """Begin anew: the arm was at rest, or moved by another."""
        self._told.clear()
        self._reports.clear()
        self._sum = np.zeros(6)

    def sent(self, command: Motion, arm: ArmState, now_s: float) -> None:
        """Note what was told."""
        turn = rotations.rotate(arm.pose.orientation, command.angular)
        self._sum = self._sum + np.concatenate([command.linear, turn]) * TICK_S
        self._told.append((now_s, self._sum))

    def fault(self, arm: ArmState) -> str:
        """What is wrong, if a report shows it; empty: nothing."""
        if self._reports and self._reports[-1].seq == arm.seq:
            return ""
        self._reports.append(arm)
        first = self._first_of_window(arm)
        told = None if first is None else self._told_between(first.time_s, arm.time_s)
        if first is None or told is None:
            return ""
        moved_m = arm.pose.position_m - first.pose.position_m
        turned_rad = rotations.turn_between(first.pose.orientation, arm.pose.orientation)
        return self._shortfall("m", told[:3], moved_m, self._least_m) or self._shortfall(
            "rad", told[3:], turned_rad, self._least_rad
        )

    def _shortfall(self, unit: str, told: Vector, done: Vector, least: float) -> str:
        asked = float(np.linalg.norm(told))
        if asked <= least:
            return ""
        seen = float(done @ told) / asked
        if seen >= self._watch.stall_share * asked:
            return ""
        return (
            f"told to move {asked:.3f} {unit} within {self._watch.stall_s:g} s, the arm moved {seen:.3f}: blocked, in "
            "a singularity, stopped, or in another mode"
        )

    def _first_of_window(self, arm: ArmState) -> Optional[ArmState]:
        """The newest report that is at least stall_s older; older ones are dropped."""
        first = None
        while self._reports and self._reports[0].time_s <= arm.time_s - self._watch.stall_s:
            first = self._reports.popleft()
        if first is not None:
            self._reports.appendleft(first)
        return first

    def _told_between(self, begin_s: float, end_s: float) -> Optional[Vector]:
        begin, end = self._told_at(begin_s - self._latency_s), self._told_at(end_s - self._latency_s)
        return None if begin is None or end is None else end - begin

    def _told_at(self, time_s: float) -> Optional[Vector]:
        for at_s, total in reversed(self._told):
            if at_s <= time_s:
                return total
        return None
