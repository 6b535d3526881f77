"""Moves the arm by single nudges through a streamer, and reads its pose before and after.

Knows no verdict. Steps keep coming while the arm rests, so that it does not hold; a stop by the operator ends all.
"""

from __future__ import annotations

import asyncio
import math
from typing import TYPE_CHECKING, Callable, Optional

import numpy as np

from stillframe_client.jaco2.cli.nudge import AXES, Nudge
from stillframe_client.jaco2.core.watchdog import State
from stillframe_client.jaco2.domain import ToolPose
from stillframe_client.jaco2.link import Status, now_s

if TYPE_CHECKING:
    from stillframe_client.jaco2.bridge.operator import Operator
    from stillframe_client.jaco2.bridge.streamer_process import StreamerProcess
    from stillframe_client.jaco2.domain import Vector
    from stillframe_client.jaco2.settings import BridgeSettings

BEAT_S = 0.03
GOOD_FOR_S = 0.3  # a step, beyond its time
LONGEST_S = 1.0  # of one step
SHARE = 0.8  # of the speed that is allowed
SETTLED_S = 0.25  # beyond the latency, until a report shows the arm at rest
WAIT_S = 20.0
REST = np.zeros(6)


class NudgeFailed(Exception):
    """The arm did not do its nudges; the text says why."""

    def __init__(self, text: str, *, by_operator: bool = False):
        super().__init__(text)
        self.by_operator = by_operator


class Nudger:
    """One streamer, with an operator at hand."""

    def __init__(self, settings: BridgeSettings, streamer: StreamerProcess, operator: Operator):
        self._settings, self._streamer, self._operator = settings, streamer, operator
        motion = settings.motion
        self._gripper = (motion.close_below + motion.open_above) / 2  # neither: the hand stays as it is

    async def arm(self, shift_m: float) -> None:
        """Arm it where it stands, with room for shifts in the box. Raises NudgeFailed and StreamerFailed."""
        status = await self._until(lambda said: not math.isnan(said.pose[0]), "the arm does not report its pose")
        for axis in range(3):
            self._inward(axis, shift_m, status.pose[axis])
        self._streamer.link.order("arm")
        await self._until(lambda status: status.state is State.READY or self._refused() != "", "it was not armed")
        if self._refused():
            raise NudgeFailed(self._refused())
        await self._settle()

    async def nudge(self, axis: int, size: float, *, is_turn: bool) -> Nudge:
        """Go along or about an axis, read, and come back."""
        before = await self._settle()
        told = size if is_turn else size * self._inward(axis, size, float(before.position_m[axis]))
        unit = np.zeros(6)
        unit[axis + (3 if is_turn else 0)] = 1.0
        await self._go(unit * told, is_turn=is_turn)
        after = await self._settle()
        await self._go(unit * -told, is_turn=is_turn)
        return Nudge(is_turn, axis, told, before, after)

    async def disarm(self) -> None:
        """Come to rest and let go."""
        self._streamer.link.order("disarm")
        await self._until(lambda status: status.at_rest, "the arm does not come to rest")

    def _inward(self, axis: int, size: float, here: float) -> float:
        """Towards the middle of the box. Raises NudgeFailed where there is no room."""
        limits = self._settings.limits
        low, high = limits.low_m[axis], limits.high_m[axis]
        low = max(low, limits.floor_m) if axis == 2 else low
        sign = 1.0 if here <= (low + high) / 2 else -1.0
        if not (low <= here <= high and low <= here + sign * size <= high):
            raise NudgeFailed(
                f"the tool is at {AXES[axis]} {here:.3f} m and the box goes from {low:g} to {high:g}: no room for "
                f"{size:g} m; move it in with the joystick"
            )
        return sign

    async def _go(self, move: Vector, *, is_turn: bool) -> None:
        """Make a movement [6] in steps of the allowed speed and size."""
        limits = self._settings.limits
        size = float(np.linalg.norm(move))
        speed = SHARE * limits.speed * (limits.angular_rad_s if is_turn else limits.linear_m_s)
        most = limits.step_rad if is_turn else limits.step_m
        steps = max(math.ceil(size / most), math.ceil(size / speed / LONGEST_S))
        lasts_s = size / speed / steps
        for _ in range(steps):
            await self._step(move / steps, lasts_s)

    async def _settle(self) -> ToolPose:
        """Rest until a report shows it; return the pose."""
        rests_s = now_s() + self._settings.limits.latency_s + SETTLED_S
        until_s = now_s() + WAIT_S
        while now_s() < until_s:
            await self._step(REST, 0.1)
            status = self._look()
            if status is not None and status.time_s - status.pose_age_s > rests_s:
                return ToolPose(np.array(status.pose[:3]), np.array(status.pose[3:]))
        raise NudgeFailed(f"the arm did not report its pose for {WAIT_S:g} s")

    async def _step(self, delta: Vector, lasts_s: float) -> None:
        """Send a step, and wait until it is over."""
        until_s = now_s() + lasts_s
        self._streamer.link.step(delta.tolist(), self._gripper, lasts_s, until_s + GOOD_FOR_S)
        while now_s() < until_s:
            self._streamer.link.heartbeat()
            self._look()
            await asyncio.sleep(max(min(BEAT_S, until_s - now_s()), 0.001))

    async def _until(self, true: Callable[[Status], bool], otherwise: str) -> Status:
        until_s = now_s() + WAIT_S
        while now_s() < until_s:
            self._streamer.link.heartbeat()
            status = self._look()
            if status is not None and true(status):
                return status
            await asyncio.sleep(BEAT_S)
        raise NudgeFailed(f"{otherwise} within {WAIT_S:g} s")

    def _look(self) -> Optional[Status]:
        """What the streamer says. Raises NudgeFailed where it has stopped the arm."""
        status = self._streamer.poll()
        if self._operator.stopped is not None:
            raise NudgeFailed(self._operator.stopped, by_operator=True)
        if status is not None and status.state is State.FAULT:
            raise NudgeFailed(status.reason or "the streamer stopped the arm")
        return status

    def _refused(self) -> str:
        return next((reason for reason in self._streamer.reasons if reason.startswith("not armed")), "")
