from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from stillframe_client.jaco2 import rotations
from stillframe_client.jaco2.core.checks import StallCheck, pose_fault, step_fault
from stillframe_client.jaco2.core.safety import Motion
from stillframe_client.jaco2.domain import ArmState, Step, ToolPose
from stillframe_client.jaco2.settings import LimitSettings, WatchSettings

LIMITS, WATCH = LimitSettings(), WatchSettings()
UPRIGHT = np.array([0.0, 0.0, 0.0, 1.0])
STEP = Step(1, np.zeros(6), 1.0, 0.1, 5.0)


def report(position=(0.0, -0.4, 0.3), orientation=UPRIGHT, *, seq=1, time_s=1.0, closure=None):
    """What an arm says."""
    return ArmState(seq, time_s, ToolPose(np.array(position, float), np.array(orientation, float)), closure)


BAD_STEPS = [
    (replace(STEP, delta=np.array([math.nan, 0, 0, 0, 0, 0])), "seven finite"),
    (replace(STEP, delta=np.zeros(5)), "seven finite"),
    (replace(STEP, gripper=math.inf), "seven finite"),
    (replace(STEP, deadline_s=math.nan), "seven finite"),
    (replace(STEP, delta=np.array([0.03, 0.03, 0.03, 0, 0, 0])), "moves 0.052 m"),
    (replace(STEP, delta=np.array([1e200, 1e308, 0, 0, 0, 0])), "unnorm_key"),
    (replace(STEP, delta=np.array([0, 0, 0, 0.2, 0.2, 0.2])), "turns 0.35 rad"),
    (replace(STEP, gripper=-1.0), "0 closed to 1 open"),
    (replace(STEP, lasts_s=0.0), "lasts 0 s"),
    (replace(STEP, lasts_s=-0.1), "lasts -0.1 s"),
    (replace(STEP, lasts_s=2.1), "lasts 2.1 s"),
]


@pytest.mark.parametrize(("step", "words"), BAD_STEPS, ids=[f"{k}-{words}" for k, (_, words) in enumerate(BAD_STEPS)])
def test_a_bad_step_is_found_out(step, words):
    """Whatever its numbers, in words that say which, and without a warning of numpy."""
    assert words in step_fault(step, LIMITS)


def test_a_good_step_has_no_fault():
    """At the limits themselves."""
    assert not step_fault(replace(STEP, delta=np.array([0.05, 0, 0, 0, 0.3, 0]), lasts_s=2.0), LIMITS)


BAD_REPORTS = [
    (report((math.nan, 0, 0)), "not finite"),
    (report(orientation=(0, 0, math.inf, 1)), "not finite"),
    (report(closure=math.nan), "not finite"),
    (report(orientation=(0, 0, 0, 0)), "no unit quaternion"),
    (report(orientation=(0, 0, 0, 1.02)), "no unit quaternion"),
    (report(orientation=(0, 0, 0, 1e200)), "no unit quaternion"),
    (report((0.8, 0.8, 0)), "1.13 m from its base"),
    (report((1e200, 0, 0)), "m from its base"),
    (report(time_s=1.02), "still to come"),
    (report(time_s=math.nan), "still to come"),
    (report((0.06, -0.4, 0.3)), "jumped by 0.060 m"),
    (report(orientation=rotations.about_z(0.6)), "jumped by 0.60 rad"),
]


@pytest.mark.parametrize(
    ("bad", "words"), BAD_REPORTS, ids=[f"{k}-{words}" for k, (_, words) in enumerate(BAD_REPORTS)]
)
def test_a_bad_report_is_found_out(bad, words):
    """Not finite, no rotation, beyond the arm's reach, of the future, or a jump from the last."""
    assert words in pose_fault(bad, report(), 1.0, WATCH)


def test_a_good_report_has_no_fault():
    """With a hand, moving on at the fastest, and anywhere within reach where there is no report before it."""
    before = report()
    assert not pose_fault(report(closure=1.0), before, 1.0, WATCH)
    assert not pose_fault(report((0.2, -0.4, 0.3), time_s=2.0), before, 2.0, WATCH)
    assert not pose_fault(report((0.9, 0.0, 0.3)), None, 1.0, WATCH)


def stalled(told, moved, turn=0.0, *, seconds=2.0, watch=WATCH):
    """What is said of an arm that is told one speed along x and moves at another; a report each 100 ms."""
    check = StallCheck(watch, 0.1)
    for tick in range(round(seconds * 100)):
        now_s = tick / 100
        arm = report((moved * now_s, -0.4, 0.3), rotations.about_z(turn / 2 * now_s), seq=tick // 10, time_s=now_s)
        check.sent(Motion(np.array([told, 0.0, 0.0]), np.array([0.0, 0.0, turn])), arm, now_s)
        fault = check.fault(arm)
        if fault:
            return fault
    return ""


def test_an_arm_that_does_not_move_is_found_out():
    """In translation, with what it was told and what it did; backwards is no movement either."""
    assert "told to move" in stalled(0.05, 0.0)
    assert "singularity" in stalled(0.05, -0.05)


def test_an_arm_that_moves_as_told_is_not():
    """With the under-travel that is usual, at half the rotation, and where too little was asked to tell."""
    assert not stalled(0.05, 0.04)
    assert not stalled(0.05, 0.05, turn=0.5)
    assert not stalled(0.02, 0.0)
    assert not stalled(0.05, 0.0, seconds=0.9)


def test_an_arm_that_does_not_turn_is_found_out():
    """Rotation is looked at by itself."""
    assert "rad within" in stalled(0.0, 0.0, turn=0.5, watch=replace(WATCH, stall_share=0.6))


def test_after_clear_the_past_does_not_count():
    """An arm that was moved by hand begins anew."""
    check = StallCheck(WATCH, 0.1)
    motion = Motion(np.array([0.1, 0, 0]), np.zeros(3))
    for tick in range(100):
        check.sent(motion, report(), tick / 100)
        assert not check.fault(report(seq=tick, time_s=tick / 100))
    check.clear()
    assert not check.fault(report(seq=200, time_s=2.0))
