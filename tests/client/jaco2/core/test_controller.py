from __future__ import annotations

import itertools
import math
from dataclasses import replace

import numpy as np
import pytest

from stillframe_client.jaco2.ceilings import TICK_S
from stillframe_client.jaco2.core.controller import Call, Controller
from stillframe_client.jaco2.core.messages import NOTHING, Inbox, Order
from stillframe_client.jaco2.core.watchdog import State
from stillframe_client.jaco2.domain import ToolPose

FORWARD = (0.005, 0, 0, 0, 0, 0)  # in 0.1 s: 0.05 m/s


@pytest.fixture
def rig(rigs):
    """At full speed, with the defaults otherwise."""
    return rigs.Rig(rigs.settings_of(), rigs.World(under_travel=0.17, latency_s=0.02))


@pytest.fixture
def running(rig):
    """The same, and it moves."""
    rig.arm()
    assert rig.follow(1.0, (0.05, 0, 0)).state is State.RUNNING
    return rig


def moves(tick):
    """Whether the tick commands a movement."""
    return tick.command is not None and bool(tick.command.linear_m_s.any() or tick.command.angular_rad_s.any())


def test_nothing_is_sent_before_it_is_armed(rig):
    """Steps are not kept for later either."""
    for _ in range(5):
        assert rig.run(0.1, rig.step(FORWARD)).command is None
    assert rig.controller.state is State.DISARMED
    rig.arm()
    assert not moves(rig.run(0.5))


def test_armed_it_sends_zeros_until_a_step(rig):
    """READY keeps the arm's queue full of rest."""
    rig.arm()
    assert not moves(rig.run(0.3))
    assert rig.ticks[-1].command is not None
    assert rig.tick(rig.step(FORWARD)).state is State.RUNNING


def test_steps_are_made_in_full_by_an_arm_that_does_less(running):
    """Twenty steps of 3 mm with 17 % under-travel: 5 cm open loop, 6 cm with the pull."""
    begin = running.place_m
    running.follow(2.0, (0.0, 0.0, 0.03))
    running.follow(2.5, (0.0, 0.0, 0.0))
    assert running.place_m[2] - begin[2] == pytest.approx(0.06, abs=0.002)


REFUSALS = {
    "silent": ({"heartbeat": False}, 0.3, "the bridge is silent"),
    "no report": ({"report": lambda _: None}, 0.1, "the arm has not reported"),
    "old pose": ({"report": lambda report: replace(report, time_s=49.0)}, 0.1, "the arm's pose is old"),
    "bad pose": ({"report": lambda report: replace(report, closure=math.nan)}, 0.1, "not finite"),
    "arm error": ({"error": "no driver"}, 0.1, "no driver"),
    "signal": ({"stop": "stopped by SIGINT"}, 0.1, "SIGINT"),
    "garbage": ({"garbage": "3 bytes"}, 0.1, "3 bytes"),
    "gone": ({"gone": True}, 0.1, "the bridge is gone"),
}


@pytest.mark.parametrize(("inputs", "seconds", "words"), REFUSALS.values(), ids=REFUSALS)
def test_it_is_not_armed_while_something_speaks_against_it(rig, inputs, seconds, words):
    """The note says what; nothing is sent and the arm is not started."""
    rig.run(seconds, **inputs)
    tick = rig.tick("arm", **inputs)
    assert (tick.state, tick.command, tick.calls) == (State.DISARMED, None, ())
    assert tick.notes[0].startswith("not armed: ")
    assert words in tick.notes[0]


def test_a_second_arming_is_answered(running):
    """It changes nothing."""
    tick = running.tick("arm")
    assert tick.state is State.RUNNING
    assert "the state is RUNNING" in tick.notes[0]


FAULTS = {
    "stop order": (("stop",), {}, "stopped by the operator"),
    "signal": ((), {"stop": "stopped by SIGHUP"}, "SIGHUP"),
    "gone": ((), {"gone": True}, "the bridge is gone"),
    "garbage": ((), {"garbage": "12 bytes"}, "12 bytes"),
    "arm error": ((), {"error": "the driver is gone"}, "the driver is gone"),
    "away": ((), {"gap_s": 0.3}, "the streamer was stopped for 0.30 s"),
    "nan pose": (
        (), {"report": lambda report: replace(report, seq=99, pose=ToolPose(np.full(3, math.nan), np.ones(4) / 2))},
        "not finite",
    ),
    "jump": (
        (), {"report": lambda report: replace(
            report, seq=99, pose=ToolPose(report.pose.position_m + 0.1, report.pose.orientation)
        )}, "jumped",
    ),
}  # fmt: skip


@pytest.mark.parametrize(("messages", "inputs", "words"), FAULTS.values(), ids=FAULTS)
def test_what_does_not_mend_by_itself_is_a_fault_until_it_is_cleared(running, messages, inputs, words):
    """FAULT at that tick, for that reason, to the end; the arm rests and is stopped, and may be armed only then."""
    tick = running.tick(*messages, **inputs)
    assert tick.state is State.FAULT
    assert any(words in reason for reason in tick.reasons)
    assert any(words in note for note in tick.notes)
    last = running.run(2.0, running.step(FORWARD))
    assert (last.state, last.command, last.reasons) == (State.FAULT, None, tick.reasons)
    assert running.controller.is_at_rest
    assert running.driver.stopped
    assert running.tick("arm").state is State.FAULT
    assert running.tick("clear").state is State.DISARMED
    assert running.tick("arm").state is (State.DISARMED if words == "the bridge is gone" else State.READY)


BAD = {
    "nan": {"delta": (math.nan, 0, 0, 0, 0, 0)},
    "far": {"delta": (0.06, 0, 0, 0, 0, 0)},
    "turn": {"delta": (0, 0, 0, 1, 0, 0)},
    "gripper": {"gripper": -1.0},
    "time": {"lasts_s": 0.0},
}


@pytest.mark.parametrize("bad", BAD.values(), ids=BAD)
def test_a_step_that_cannot_be_meant_is_a_fault(running, bad):
    """Not clipped and not passed over: the policy is another robot's."""
    tick = running.tick(running.step(**bad))
    assert tick.state is State.FAULT
    assert running.run(1.0).command is None


HOLDS = {
    "no step": ({}, 0.35, "no fresh step"),
    "silent": ({"heartbeat": False}, 0.2, "the bridge is silent"),
    "old pose": ({"frozen": True}, 0.65, "the arm's pose is old"),
}


@pytest.mark.parametrize(("inputs", "seconds", "words"), HOLDS.values(), ids=HOLDS)
def test_what_is_stale_holds_and_goes_on_when_it_is_fresh(running, inputs, seconds, words):
    """Rest within the ramp, no stop; a fresh step goes on without an order."""
    inputs = dict(inputs)
    if inputs.pop("frozen", False):
        last = running.report()
        inputs["report"] = lambda _: last
    for _ in range(round(seconds / TICK_S)):
        running.tick(*([] if words == "no fresh step" else [running.step(FORWARD)]), **inputs)
    held = running.tick(**inputs)
    assert held.state is State.HOLD
    assert words in held.reasons
    assert not moves(running.run(0.2, **inputs))
    assert not running.driver.stopped
    running.run(0.1)
    assert running.tick(running.step(FORWARD)).state is State.RUNNING


WORSE = {"silent": ({"heartbeat": False}, 1.1), "hold": ({}, 15.4)}


@pytest.mark.parametrize(("inputs", "seconds"), WORSE.values(), ids=WORSE)
def test_what_stays_stale_is_a_fault(running, inputs, seconds):
    """A bridge that is silent for a second, a hold of fifteen."""
    assert running.run(seconds, **inputs).state is State.FAULT


def test_a_pose_that_stays_old_is_a_fault(running):
    """After 1.5 s, though steps and heartbeats go on."""
    last = running.report()
    for _ in range(160):
        tick = running.tick(running.step(FORWARD), report=lambda _: last)
    assert tick.state is State.FAULT
    assert tick.reasons[0].startswith("the arm's pose is old: 1.5")


def test_old_steps_are_dropped_and_said_so(running):
    """A step again, one of before, and one that is over."""
    seq = running.seq
    again = running.tick(running.step(FORWARD, seq=seq))
    before = running.tick(running.step(FORWARD, seq=seq - 1))
    over = running.tick(running.step(FORWARD, seq=seq + 1, good_for_s=-0.05))
    assert again.notes == (f"step {seq} came after step {seq}: dropped",)
    assert before.notes == (f"step {seq - 1} came after step {seq}: dropped",)
    assert over.notes == (f"step {seq + 1} is over: dropped",)


def test_no_deadline_is_further_than_the_ceiling(running):
    """A step that says an hour is followed for its time, and after two seconds it is stale."""
    running.tick(running.step(FORWARD, good_for_s=3600.0))
    assert running.run(1.9).state is State.RUNNING
    assert running.run(0.2).state is State.HOLD


def test_a_fault_brakes_by_the_ceiling_also_once_it_is_cleared(running):
    """0.64 m/s2, not the settings' 0.4."""
    speeds = [math.hypot(*running.tick(*orders).command.linear_m_s) for orders in ((), ("stop",), ("clear",))]
    assert [before - after for before, after in itertools.pairwise(speeds)] == pytest.approx([0.0064] * 2)


def test_a_gap_that_empties_the_queue_begins_from_rest(running):
    """After 30 ms without a command the first one is within one tick's acceleration."""
    tick = running.tick(gap_s=0.03)
    assert tick.state is State.RUNNING
    assert 0 < math.hypot(*tick.command.linear_m_s) <= running.settings.limits.linear_m_s2 * TICK_S + 1e-9


def test_a_disarmed_arm_comes_to_rest_and_is_stopped(running):
    """By the settings' acceleration; while it does, it cannot be armed."""
    assert running.tick("disarm").state is State.DISARMED
    assert "still coming to rest" in running.tick("arm").notes[0]
    last = running.run(1.0)
    assert last.command is None
    assert running.driver.stopped
    assert running.controller.is_at_rest


def test_orders_of_one_tick_count_in_their_order(rig):
    """Armed and stopped at once: FAULT, zeros and a stop; clear and arm at once: not while it comes to rest."""
    rig.run(0.1)
    tick = rig.tick("arm", "stop")
    assert (tick.state, tick.calls) == (State.FAULT, (Call.START,))
    assert not moves(tick)
    assert rig.tick("clear", "arm").state is State.DISARMED
    rig.run(0.5)
    assert rig.driver.stopped
    assert rig.tick("clear", "arm").state is State.READY


def test_an_arm_that_is_told_to_move_and_does_not_is_a_fault(rigs):
    """Blocked, in a singularity, stopped by another: within the window and the latency."""
    rig = rigs.Rig(rigs.settings_of(), rigs.World(under_travel=1.0))
    rig.arm()
    assert rig.follow(2.0, (0.05, 0, 0)).state is State.FAULT
    assert "told to move" in rig.ticks[-1].reasons[0]


def test_a_dry_arm_does_not_move_and_that_is_no_fault(rigs):
    """Nothing is sent: what it would have sent is decided as if it had followed."""
    settings = rigs.settings_of()
    rig = rigs.Rig(settings, rigs.World(under_travel=1.0))
    rig.controller = Controller(settings, dry=True)
    rig.arm()
    assert rig.follow(3.0, (0.05, 0, 0)).state is State.RUNNING
    assert rig.ticks[-1].command.linear_m_s[0] == pytest.approx(0.05, rel=0.05)


def test_the_hand_stays_as_it_is_until_a_step_says_otherwise(rig):
    """Armed with a half-closed hand; one that reports none counts as open."""
    half = {"report": lambda report: replace(report, closure=0.5)}
    rig.run(0.1, **half)
    assert rig.tick("arm", **half).command.closure == 0.5
    assert rig.tick(rig.step(FORWARD, gripper=0.5), **half).command.closure == 0.5
    assert rig.tick(rig.step(FORWARD, gripper=0.0), **half).command.closure == 1.0
    without = {"report": lambda report: replace(report, closure=None)}
    rig.run(0.5, "disarm", **without)
    assert rig.tick("arm", **without).command.closure == 0.0


def test_a_report_of_before_is_passed_over(running):
    """A newer number with an older time: neither believed nor a fault."""
    was = running.report()
    running.run(0.3, running.step(FORWARD, lasts_s=0.3, good_for_s=0.5))
    tick = running.tick(report=lambda report: replace(was, seq=report.seq + 1))
    assert tick.state is State.RUNNING


def test_an_arm_may_be_moved_by_hand_while_it_is_not_armed(rig):
    """Poses that jump are believed then."""
    rig.run(0.1)
    there = ToolPose(np.array([0.3, -0.4, 0.3]), rig.report().pose.orientation)
    for seq in (50, 51):
        tick = rig.tick(report=lambda report, seq=seq: replace(report, pose=there, seq=seq))
        assert tick.reasons == ("no fresh step",)


def test_a_controller_without_inputs_does_nothing():
    """No report, no heartbeat, no orders, for ever."""
    from stillframe_client.jaco2.settings import BridgeSettings

    controller = Controller(BridgeSettings())
    for k in range(300):
        tick = controller.tick(NOTHING, None, k * TICK_S)
        assert (tick.command, tick.calls, tick.state) == (None, (), State.DISARMED)
    assert controller.tick(Inbox((Order("arm"),)), None, 3.0).command is None
