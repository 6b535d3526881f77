"""The safety filter: whatever is asked for, what is sent stays within speed, acceleration, box, floor and column.

Knows no step and no state of the watchdog. Pure: the same inputs give the same command. Speed and acceleration hold
exactly, jerk too but for a stop by the ceilings. Box, floor and column hold at the point where the tool would come to
rest, counting every command that the last report cannot have seen yet: where commands take no longer than latency_s,
a tool that was inside stays inside as far as reports are true, within 0.2 mm (4 mm where the column narrows to a wall
like a wedge and latency_s is above 0.1). A report that is wrong by so much lets it so much further out. A tool that is
outside already may always move back in and is never sent further out.
"""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Deque, List, Optional, Tuple

import numpy as np

from stillframe_client.jaco2 import ceilings
from stillframe_client.jaco2.ceilings import TICK_S

if TYPE_CHECKING:
    from stillframe_client.jaco2.domain import ArmState, Vector
    from stillframe_client.jaco2.settings import LimitSettings

# Of the acceleration, for the braking in one direction: three walls and the column may need it at once.
BRAKING_SHARE = 0.35
NO_PART = 1e-9  # of a direction along an axis, at most, that counts as none
REMEMBERED = 256  # commands: more than a pose may be old, plus latency
MOST_SMOOTHED = round(ceilings.SMOOTHED_S / TICK_S)


@dataclass(frozen=True, eq=False)
class Motion:
    """What the tool is told: metres a second in the base frame, radians a second in the tool's."""

    linear: Vector  # [3]
    angular: Vector  # [3]

    @property
    def is_rest(self) -> bool:
        """Whether it is none."""
        return not (self.linear.any() or self.angular.any())


REST = Motion(np.zeros(3), np.zeros(3))


class SafetyFilter:
    """Filters the commands of one arm; remembers what it let through."""

    def __init__(self, limits: LimitSettings):
        self._limits = limits
        self._linear_m_s = limits.linear_m_s * limits.speed
        self._angular_rad_s = limits.angular_rad_s * limits.speed
        self._low = np.array(limits.low_m)
        self._low[2] = max(limits.low_m[2], limits.floor_m)
        self._high = np.array(limits.high_m)
        self._sent = _Sent(limits.latency_s)
        self._limited = REST  # after the limits, before smoothing
        self._smoothing = _Smoothing(_smoothed_ticks(limits))

    def next(
        self, asked: Motion, arm: Optional[ArmState], now_s: float, *, hard: bool = False
    ) -> Tuple[Motion, List[str]]:
        """Return the command of this tick, and which limits changed what was asked for.

        Without a pose there is no box: then only rest may be asked for. `hard`: come to rest as fast as the ceilings
        allow.
        """
        reasons: List[str] = []
        want = self._capped(asked, reasons)
        limits = self._limits
        linear_step = (ceilings.LINEAR_M_S2 if hard else limits.linear_m_s2) * TICK_S
        angular_step = (ceilings.ANGULAR_RAD_S2 if hard else limits.angular_rad_s2) * TICK_S
        allowed = None if arm is None else self._allowed(arm)
        inside = self._limited.linear if allowed is None else allowed.nearest(self._limited.linear, [])
        goal = want.linear if allowed is None else allowed.nearest(want.linear, reasons)
        self._limited = Motion(
            _towards(self._limited.linear, inside, goal, linear_step),
            _towards(self._limited.angular, self._limited.angular, want.angular, angular_step),
        )
        command = self._smoothing.next(self._limited)
        self._sent.add(now_s, command.linear * TICK_S)
        return command, reasons

    def came_to_rest(self) -> None:
        """The arm's queue ran empty, or nothing is sent any more: the next command starts from rest."""
        self._limited = REST
        self._smoothing.clear()

    def _capped(self, asked: Motion, reasons: List[str]) -> Motion:
        linear, capped = _within(asked.linear, self._linear_m_s)
        angular, turned = _within(asked.angular, self._angular_rad_s)
        if capped or turned:
            reasons.append("speed")
        return Motion(linear, angular)

    def _allowed(self, arm: ArmState) -> _Allowed:
        """The velocities from which the tool still comes to rest inside."""
        onward, back = self._sent.since(arm.time_s)
        more, less = self._smoothing.pending()
        position = arm.pose.position_m
        furthest, nearest = position + onward + more, position + back + less
        brake = BRAKING_SHARE * self._limits.linear_m_s2
        high = _braking_speeds(self._high - furthest, brake)
        low = _braking_speeds(nearest - self._low, brake)
        return _Allowed(low, high, *self._column(position, furthest - position, nearest - position, brake))

    def _column(self, position: Vector, onward: Vector, back: Vector, brake: float) -> Tuple[Vector, float]:
        """Direction [2] towards the base's axis, and how fast the tool may go there."""
        if not self._limits.column_m:
            return np.zeros(2), math.inf
        distance = math.hypot(position[0], position[1])
        inward = -position[:2] / max(distance, 1e-6)
        # The furthest that commands under way may have gone inward: each axis at its worse end.
        ahead = float(np.maximum(onward[:2] * inward, back[:2] * inward).sum())
        return inward, _braking_speed(distance - self._limits.column_m - max(ahead, 0.0), brake)


class _Allowed:
    """A convex set of velocities around rest: a box, and at most so much towards the base's axis."""

    def __init__(self, low: Vector, high: Vector, inward: Vector, inward_m_s: float):
        self._low, self._high, self._inward, self._inward_m_s = low, high, inward, inward_m_s

    def nearest(self, velocity: Vector, reasons: List[str]) -> Vector:
        """The velocity without what leads out; says which wall it was."""
        clipped = np.clip(velocity, -self._low, self._high)
        reasons += [wall for wall, hit in _walls(velocity, self._low, self._high) if hit]
        if float(clipped[:2] @ self._inward) <= self._inward_m_s:
            return clipped
        reasons.append("column")
        less = self._taken_off(velocity)
        return np.clip(velocity - less * np.array([*self._inward, 0.0]), -self._low, self._high)

    def _taken_off(self, velocity: Vector) -> float:
        """How much inward velocity to take off before the box's clip, so that what is left after it is allowed.

        The nearest point of the set, exactly: what is left falls with what is taken off, in straight pieces between
        the places where an axis reaches its wall or leaves it.
        """
        axes = [
            (float(velocity[k]), float(self._inward[k]), -float(self._low[k]), float(self._high[k])) for k in (0, 1)
        ]
        places = sorted((v - wall) / n for v, n, *walls in axes for wall in walls if abs(n) > NO_PART)
        begin, before = 0.0, _left(axes, 0.0)
        for place in [place for place in places if place > 0]:
            after = _left(axes, place)
            if after <= self._inward_m_s:
                return begin + (place - begin) * (before - self._inward_m_s) / (before - after)
            begin, before = place, after
        return begin


def _left(axes: List[Tuple[float, float, float, float]], less: float) -> float:
    """Inward velocity after so much is taken off and the box has clipped: of axes (velocity, inward, low, high)."""
    return sum(min(max(v - less * n, low), high) * n for v, n, low, high in axes)


def _walls(velocity: Vector, low: Vector, high: Vector) -> List[Tuple[str, bool]]:
    below, above = velocity < -low, velocity > high
    return [("floor", bool(below[2])), ("box", bool(below[:2].any() or above.any()))]


class _Sent:
    """Movements that were commanded lately: those that a report cannot have seen are still to come."""

    def __init__(self, latency_s: float):
        self._latency_s = latency_s
        self._times_s = np.full(REMEMBERED, -math.inf)
        self._moves_m = np.zeros((REMEMBERED, 3))
        self._next = 0

    def add(self, now_s: float, move_m: Vector) -> None:
        self._times_s[self._next], self._moves_m[self._next] = now_s, move_m
        self._next = (self._next + 1) % REMEMBERED

    def since(self, report_s: float) -> Tuple[Vector, Vector]:
        """The most that is still to come in each direction: [3] from 0 up, [3] from 0 down."""
        moves = self._moves_m[self._times_s >= report_s - self._latency_s]
        return np.maximum(moves, 0.0).sum(axis=0), np.minimum(moves, 0.0).sum(axis=0)


class _Smoothing:
    """Mean of the last so many motions: bounds the jerk, and passes neither speed nor acceleration."""

    def __init__(self, ticks: int):
        self._ticks = ticks
        self._weights = (np.arange(ticks) / ticks)[:, None]  # [ticks, 1] of the oldest first: what is still to be sent
        self.clear()

    def clear(self) -> None:
        self._last: Deque[Vector] = deque([np.zeros(6)] * self._ticks, maxlen=self._ticks)

    def next(self, motion: Motion) -> Motion:
        if self._ticks == 1:
            return motion
        self._last.append(np.concatenate([motion.linear, motion.angular]))
        mean = np.mean(self._last, axis=0)
        return Motion(mean[:3], mean[3:])

    def pending(self) -> Tuple[Vector, Vector]:
        """Movement in metres that is taken in and not sent yet: [3] from 0 up, [3] from 0 down."""
        if self._ticks == 1:
            return np.zeros(3), np.zeros(3)
        moves = np.asarray(self._last)[:, :3] * self._weights * TICK_S
        return np.maximum(moves, 0.0).sum(axis=0), np.minimum(moves, 0.0).sum(axis=0)


def _smoothed_ticks(limits: LimitSettings) -> int:
    """So many ticks that the mean's jerk, at most twice the acceleration over them, is within the limit."""
    if not limits.linear_m_s3:
        return 1
    ticks = math.ceil(2 * limits.linear_m_s2 / (limits.linear_m_s3 * TICK_S))
    return min(max(ticks, 1), MOST_SMOOTHED)


def _within(vector: Vector, most: float) -> Tuple[Vector, bool]:
    """The vector, shortened to `most` where it is longer; its direction stays."""
    length = math.sqrt(float(vector @ vector))
    return (vector, False) if length <= most else (vector * (most / length), True)


def _braking_speed(room_m: float, brake_m_s2: float) -> float:
    """The speed from which, a tick on, braking ends within the room; 0 where there is none."""
    if room_m <= 0:
        return 0.0
    tick = brake_m_s2 * TICK_S
    return math.sqrt(tick * tick + 2 * brake_m_s2 * room_m) - tick


def _braking_speeds(rooms_m: Vector, brake_m_s2: float) -> Vector:
    return np.array([_braking_speed(float(room), brake_m_s2) for room in rooms_m])


def _towards(last: Vector, inside: Vector, goal: Vector, step: float) -> Vector:
    """From `last` into the allowed set first (to `inside`), and with what acceleration is left towards `goal`."""
    must, is_all = _within(inside - last, step)
    start = last + must
    if is_all:  # all acceleration goes into getting inside
        return start
    way = goal - start
    if math.sqrt(float((start + way - last) @ (start + way - last))) <= step:
        return goal.copy()
    a, b, c = float(way @ way), 2 * float(way @ must), float(must @ must) - step * step
    if a <= 0:
        return start
    share = (-b + math.sqrt(max(b * b - 4 * a * c, 0.0))) / (2 * a)
    reached: Vector = start + way * min(max(share, 0.0), 1.0)
    return reached
