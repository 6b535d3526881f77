"""A controller before a simulated driver and tool, on a clock of its own; every command is held to the limits.

Knows no process and no socket.
"""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass, replace

import numpy as np
import pytest

from stillframe_client.jaco2 import ceilings, rotations
from stillframe_client.jaco2.arms.driver import DriverModel
from stillframe_client.jaco2.arms.kinematic import DOWN, KinematicBody
from stillframe_client.jaco2.ceilings import TICK_S
from stillframe_client.jaco2.core.controller import QUEUE_EMPTY_S, ZEROS_S, Call, Controller
from stillframe_client.jaco2.core.messages import Inbox, Order
from stillframe_client.jaco2.core.watchdog import ARMED, State
from stillframe_client.jaco2.domain import ArmState, Step, ToolPose
from stillframe_client.jaco2.settings import BridgeSettings, LimitSettings, WatchSettings

ROUNDING = 1e-9
START_S = 50.0


@dataclass
class World:
    """How the simulated arm differs from a perfect one."""

    start_m: tuple = (0.0, -0.4, 0.3)
    under_travel: float = 0.0
    latency_s: float = 0.05  # from the streamer to the arm's queue
    report_s: float = 0.1


class Audit:
    """Holds every command to the limits, and the states to their rules."""

    def __init__(self, limits):
        self._limits = limits
        self._sent = deque([np.zeros(6)] * 2, maxlen=2)  # the last commands
        self._sent_s = -math.inf
        self._rest_since_s = None
        self._before = State.DISARMED
        self._hard = False
        self._active = False  # commands are being sent

    def look(self, tick, orders, now_s):
        """One tick's outcome."""
        self._states(tick, orders)
        if tick.command is not None:
            self._limit(tick, now_s)
        self._ending(tick, now_s)
        self._before = tick.state

    def _states(self, tick, orders):
        if self._before is State.FAULT and tick.state is not State.FAULT:
            assert "clear" in orders
        if self._before not in ARMED and tick.state in ARMED:
            assert "arm" in orders
            assert Call.START in tick.calls
        assert (Call.START in tick.calls) <= ("arm" in orders)

    def _limit(self, tick, now_s):
        limits, command = self._limits, tick.command
        now = np.concatenate([command.linear_m_s, command.angular_rad_s])
        assert np.isfinite(now).all()
        assert 0 <= command.closure <= 1
        assert math.hypot(*now[:3]) <= limits.linear_m_s * limits.speed + ROUNDING
        assert math.hypot(*now[3:]) <= limits.angular_rad_s * limits.speed + ROUNDING
        if now_s - self._sent_s > QUEUE_EMPTY_S or Call.START in tick.calls:
            self._sent.extend([np.zeros(6)] * 2)
        self._hard = tick.state is State.FAULT or (self._hard and tick.state is State.DISARMED)
        hard = self._hard  # until it is at rest
        change = now - self._sent[-1]
        assert math.hypot(*change[:3]) <= (ceilings.LINEAR_M_S2 if hard else limits.linear_m_s2) * TICK_S + ROUNDING
        assert (
            math.hypot(*change[3:]) <= (ceilings.ANGULAR_RAD_S2 if hard else limits.angular_rad_s2) * TICK_S + ROUNDING
        )
        if limits.linear_m_s3 and not hard:
            bend = (change - (self._sent[-1] - self._sent[-2]))[:3]
            assert math.hypot(*bend) <= limits.linear_m_s3 * TICK_S**2 + ROUNDING
        self._sent.append(now)
        self._sent_s = now_s

    def _ending(self, tick, now_s):
        """Commands end with zeros for a while and a stop, and only an order begins them again."""
        sends = tick.command is not None
        if sends and not self._active:
            assert Call.START in tick.calls
        if self._active and not sends:
            assert Call.STOP in tick.calls
            assert self._rest_since_s is not None
            assert now_s - self._rest_since_s >= ZEROS_S - ROUNDING
        assert (Call.STOP in tick.calls) == (self._active and not sends)
        if not sends:
            assert tick.state not in ARMED
        is_rest = sends and not (tick.command.linear_m_s.any() or tick.command.angular_rad_s.any())
        if not is_rest:
            self._rest_since_s = None
        elif self._rest_since_s is None:
            self._rest_since_s = now_s
        self._active = sends


class Rig:
    """Controller, driver and tool."""

    def __init__(self, settings, world=World()):  # noqa: B008 -- never changed
        self.settings, self.world = settings, world
        self.controller = Controller(settings)
        self.audit = Audit(settings.limits)
        self.now_s = START_S
        self.seq = 0
        pose = ToolPose(np.array(world.start_m), np.array(DOWN))
        self.driver = DriverModel(
            KinematicBody(pose, under_travel=world.under_travel), self.now_s, report_s=world.report_s, running=False
        )
        self._way = deque()  # (arrives at, command)
        self.inputs, self.ticks, self.places_m = [], [], [np.array(world.start_m)]

    @property
    def place_m(self):
        """Where the tool is, in truth."""
        return self.driver.body.pose().position_m

    def step(self, delta=(0.0,) * 6, gripper=1.0, lasts_s=0.1, *, good_for_s=0.2, seq=None):
        """A step as the bridge would send it now, numbered on."""
        self.seq = self.seq + 1 if seq is None else seq
        return Step(self.seq, np.array(delta, float), gripper, lasts_s, self.now_s + TICK_S + good_for_s)

    def report(self):
        """What the arm says of itself."""
        return self.driver.state

    def tick(self, *messages, gap_s=TICK_S, report=lambda report: report, error="", **inbox):
        """Let time pass, tick, and hand the arm what comes of it. `messages`: steps, and orders by name."""
        self._pass(gap_s)
        orders = [message for message in messages if isinstance(message, str)]
        read = tuple(Order(message) if isinstance(message, str) else message for message in messages)
        given = (Inbox(read, **{"heartbeat": True, **inbox}), report(self.report()), self.now_s, error)
        tick = self.controller.tick(*given)
        self.inputs.append(given)
        self.ticks.append(tick)
        self.audit.look(tick, orders, self.now_s)
        self._hand_on(tick)
        return tick

    def run(self, seconds, *messages, **options):
        """Tick for so long; the messages come with the first. Returns the last tick."""
        tick = self.tick(*messages, **options)
        for _ in range(round(seconds / TICK_S) - 1):
            tick = self.tick(**options)
        return tick

    def follow(self, seconds, velocity, turn=(0.0, 0.0, 0.0)):
        """Feed steps of 0.1 s that ask for a velocity; returns the last tick."""
        for _ in range(round(seconds / 0.1)):
            tick = self.run(0.1, self.step(np.array([*velocity, *turn]) * 0.1))
        return tick

    def arm(self):
        """Bring it to READY."""
        self.run(0.05)
        assert self.tick("arm").state is State.READY

    def _pass(self, gap_s):
        self.now_s += gap_s
        while self._way and self._way[0][0] <= self.now_s:
            arrives_s, command = self._way.popleft()
            self._advance(arrives_s)
            self.driver.command(command)
        self._advance(self.now_s)

    def _advance(self, until_s):
        """As the driver's advance, and note every place."""
        while self.driver._played_s + TICK_S <= until_s + 1e-9:
            self.driver.advance(self.driver._played_s + TICK_S)
            self.places_m.append(self.place_m)

    def _hand_on(self, tick):
        if Call.START in tick.calls:
            self.driver.start()
        if tick.command is not None:
            self._way.append((self.now_s + self.world.latency_s, tick.command))
        if Call.STOP in tick.calls:
            self.driver.stop()

    def outside_m(self, place_m):
        """How far a place is outside box, floor and column: the worst of them; 0 inside."""
        return outside_m(self.settings.limits, place_m)

    @property
    def furthest_outside_m(self):
        """Over all so far."""
        return max(self.outside_m(place) for place in self.places_m)


def outside_m(limits, place_m):
    """How far a place is outside box, floor and column: the worst of them; 0 inside."""
    low = np.array([*limits.low_m[:2], max(limits.low_m[2], limits.floor_m)])
    over = max((low - place_m).max(), (place_m - np.array(limits.high_m)).max())
    inside_column = limits.column_m - math.hypot(place_m[0], place_m[1]) if limits.column_m else 0.0
    return max(over, inside_column, 0.0)


def settings_of(limits=None, watch=None, **motion):
    """Settings at full speed; the rest as given."""
    base = BridgeSettings()
    return replace(
        base,
        limits=LimitSettings(**{"speed": 1.0, **(limits or {})}),
        watch=WatchSettings(**(watch or {})),
        motion=replace(base.motion, **motion),
    )


@pytest.fixture(scope="session")
def rigs():
    """The module itself: Rig, World, settings_of, outside_m."""
    import types

    return types.SimpleNamespace(
        Rig=Rig,
        World=World,
        Audit=Audit,
        settings_of=settings_of,
        outside_m=outside_m,
        ArmState=ArmState,
        rotations=rotations,
    )
