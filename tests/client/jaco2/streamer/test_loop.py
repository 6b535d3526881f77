from __future__ import annotations

import math

import numpy as np
import pytest

from stillframe_client.jaco2 import link
from stillframe_client.jaco2.arms.base import ArmError
from stillframe_client.jaco2.arms.sim import SimArm
from stillframe_client.jaco2.ceilings import TICK_S
from stillframe_client.jaco2.core.controller import Controller
from stillframe_client.jaco2.core.messages import Inbox
from stillframe_client.jaco2.core.watchdog import State
from stillframe_client.jaco2.link import BridgeEnd, StreamerEnd
from stillframe_client.jaco2.settings import BridgeSettings, LimitSettings
from stillframe_client.jaco2.streamer.loop import Streamer
from stillframe_client.jaco2.streamer.pacing import Beat


class Clock:
    """A virtual clock; a test's `each` is called before every tick."""

    def __init__(self):
        self.time_s, self.each = 100.0, lambda: None

    def now_s(self):
        """The time."""
        return self.time_s

    def sleep_until(self, time_s):
        """Be there at once."""
        self.time_s = max(self.time_s, time_s)
        self.each()


class Arm(SimArm):
    """The sim arm, which notes what it is called for and fails when it is told to."""

    def __init__(self, clock):
        super().__init__("test", loss=0.0, under_travel=0.17, clock=clock.now_s)
        self.called, self.fails = [], set()

    def _call(self, name, *values):
        self.called.append((name, *values))
        if name in self.fails:
            raise ArmError(f"the arm does not {name}")

    def state(self):
        """The newest report."""
        if "state" in self.fails:
            raise ArmError("the arm does not report")
        return super().state()

    def send(self, twist):
        """One point."""
        self._call("send", float(np.abs([*twist.linear_m_s, *twist.angular_rad_s]).max()))
        super().send(twist)

    def start(self):
        """Let commands in."""
        self._call("start")
        super().start()

    def stop(self):
        """Erase."""
        self._call("stop")
        super().stop()


class Log:
    """Keeps the ticks."""

    def __init__(self):
        self.ticks, self.errors = [], []

    def tick(self, now_s, late_s, inbox, arm, error, tick):  # noqa: ARG002 -- the log's
        """Note it."""
        self.ticks.append(tick)
        self.errors.append(error)


class House:
    """A streamer and its bridge's end, on a virtual clock."""

    def __init__(self, *, dry=False):
        self.clock, self.log = Clock(), Log()
        ours, theirs = link.pair()
        self.bridge, self.end = BridgeEnd(ours), StreamerEnd(theirs)
        self.arm = Arm(self.clock)
        self.controller = Controller(BridgeSettings(limits=LimitSettings(speed=1.0)), dry=dry)
        self.streamer = Streamer(self.controller, self.arm, self.end, self.log, dry=dry)
        self.stop = ""
        self.asked = 0

    def run(self, acts, most=1000):
        """Run the loop; `acts`: tick number -> what to do before it. Fails where it does not end."""
        count = iter(range(most))

        def each():
            k = next(count)
            if not self.bridge.is_closed:
                self.bridge.heartbeat()
                if k % 10 == 0:
                    self.bridge.step([0.005, 0, 0, 0, 0, 0], 1.0, 0.1, self.clock.time_s + 0.3)
            acts.get(k, lambda: None)()

        self.clock.each = each
        self.streamer.run(Beat(self.clock), lambda: self.stop)

    def hang_up(self):
        """The bridge's end closes."""
        self.bridge.close()
        self.bridge.is_closed = True

    def close(self):
        """Both ends."""
        self.bridge.close()
        self.end.close()

    @property
    def sent(self):
        """Of each command the largest number."""
        return [call[1] for call in self.arm.called if call[0] == "send"]

    def ends_well(self):
        """The last 0.3 s of commands were zeros, then the stop, and nothing after it."""
        names = [call[0] for call in self.arm.called]
        return names[-1] == "stop" and names.count("stop") == 1 and not any(self.sent[-30:])


@pytest.fixture
def new_house():
    """Make Houses; each is closed with the test."""
    made = []

    def make(**options):
        made.append(House(**options))
        return made[-1]

    yield make
    for house in made:
        house.close()


def test_a_run_from_arming_to_the_bridges_end(new_house):
    """It starts, follows, comes to rest when the bridge hangs up, stops the arm and ends."""
    house = new_house()
    house.run({5: lambda: house.bridge.order("arm"), 200: house.hang_up})
    assert house.arm.called[0] == ("start",)
    assert max(house.sent) == pytest.approx(0.05, rel=0.5)
    assert house.ends_well()
    assert house.log.ticks[-1].state is State.FAULT
    assert len(house.log.ticks) < 200 + 60


def test_a_stop_by_signal_ends_it_too(new_house):
    """`stop` gives a reason: the arm comes to rest and the loop ends, while the bridge is still there."""
    house = new_house()
    house.run({5: lambda: house.bridge.order("arm"), 200: lambda: setattr(house, "stop", "stopped by SIGTERM")})
    assert house.ends_well()
    assert house.log.ticks[-1].reasons == ("stopped by SIGTERM",)


def test_a_loop_that_was_never_armed_ends_at_once(new_house):
    """There is nothing to bring to rest, and nothing was sent."""
    house = new_house()
    house.run({20: house.hang_up})
    assert house.arm.called == []


@pytest.mark.parametrize("name", ["send", "start", "state"])
def test_an_arm_that_fails_is_a_fault_and_is_stopped(new_house, name):
    """Whatever call fails: FAULT in the next tick, with the arm's words; stop is called all the same."""
    house = new_house()
    failing = {3: lambda: house.arm.fails.add("start")} if name == "start" else {
        150: lambda: house.arm.fails.add(name), 151: house.arm.fails.clear,
    }  # fmt: skip
    house.run({5: lambda: house.bridge.order("arm"), **failing, 300: house.hang_up})
    broken = next(k for k, tick in enumerate(house.log.ticks) if tick.state is State.FAULT)
    assert house.log.errors[broken].startswith("the arm does not")
    assert broken <= 152
    assert house.ends_well()


def test_an_arm_that_never_comes_back_is_stopped_all_the_same(new_house):
    """Every command fails from one tick on: the loop goes on to its end."""
    house = new_house()
    house.run({5: lambda: house.bridge.order("arm"), 150: lambda: house.arm.fails.add("send"), 250: house.hang_up})
    assert house.arm.called[-1] == ("stop",)
    assert house.ends_well()


def test_a_dry_run_calls_no_arm(new_house):
    """It decides and logs as ever, and the arm is asked for nothing but its state."""
    house = new_house(dry=True)
    house.run({5: lambda: house.bridge.order("arm"), 200: house.hang_up})
    assert house.arm.called == []
    assert any(tick.command is not None and tick.command.linear_m_s.any() for tick in house.log.ticks)


def test_the_bridge_is_told_fifty_times_a_second(new_house):
    """And at once when something happens; what it is told is what was done."""
    house = new_house()
    said = []

    def listen():
        status = house.bridge.newest()
        said.extend([] if status is None else [status])

    house.run({5: lambda: house.bridge.order("arm"), **dict.fromkeys(range(10, 200), listen), 200: house.hang_up})
    assert len(said) == pytest.approx(95, abs=5)
    last, command = said[-1], house.log.ticks[said[-1].tick - 1].command
    assert last.state is State.RUNNING
    assert last.sent == (*command.linear_m_s, *command.angular_rad_s)
    assert 0 <= last.pose_age_s <= 0.1 + TICK_S


def test_an_arm_that_has_not_reported_is_told_as_unknown(new_house):
    """NaN where there is no pose yet, and no arming."""
    house = new_house()
    house.arm.state = lambda: None
    tick = house.streamer.tick(Inbox(), house.clock.time_s, 0.0)
    house.streamer.tick(Inbox(), house.clock.time_s, 0.0)
    status = house.bridge.newest()
    assert tick.state is State.DISARMED
    assert all(map(math.isnan, status.pose))
    assert math.isinf(status.pose_age_s)
