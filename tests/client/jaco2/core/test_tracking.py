from __future__ import annotations

import math

import numpy as np
import pytest

from stillframe_client.jaco2 import rotations
from stillframe_client.jaco2.ceilings import TICK_S
from stillframe_client.jaco2.core.tracking import Tracker
from stillframe_client.jaco2.domain import ArmState, Step, ToolPose
from stillframe_client.jaco2.settings import LimitSettings, MotionSettings

LIMITS = LimitSettings(speed=1.0, linear_m_s2=0.64, angular_rad_s2=2.75, latency_s=0.02)
DOWN = np.array([1.0, 0.0, 0.0, 0.0])


def arm_at(position=(0.0, -0.4, 0.3), orientation=DOWN, *, time_s=0.0):
    """A report."""
    return ArmState(round(time_s * 100), time_s, ToolPose(np.array(position), np.array(orientation)))


def asked(delta, *, seconds=0.3, orientation=DOWN, limits=LIMITS, moves=True, **motion):
    """What is asked in each tick of one step that lasts that long: linear and angular [n, 3].

    The arm does as it is asked at once, or does not move at all.
    """
    tracker = Tracker(MotionSettings(**motion), limits)
    position, turned, now_s = np.array([0.0, -0.4, 0.3]), np.array(orientation), 0.0
    tracker.begin(arm_at(position, turned), now_s)
    tracker.take(Step(1, np.array(delta, float), 1.0, seconds, 9.0), now_s)
    linear, angular = [], []
    for k in range(1, 100):
        now_s = k * TICK_S
        motion_now = tracker.asked(arm_at(position, turned, time_s=now_s), now_s)
        linear.append(motion_now.linear)
        angular.append(motion_now.angular)
        if moves:
            position = position + motion_now.linear * TICK_S
            turned = rotations.multiply(turned, rotations.from_vector(motion_now.angular * TICK_S))
    return np.array(linear), np.array(angular), turned


def test_a_step_is_made_in_the_base_frame():
    """Open loop: all of the shift, in its direction, whatever way the tool looks."""
    linear, angular, _ = asked((0.006, -0.009, 0.012, 0, 0, 0), feedback_1_s=0.0)
    assert linear.sum(axis=0) * TICK_S == pytest.approx(np.array([0.006, -0.009, 0.012]), rel=0.02)
    assert not angular.any()


def test_the_base_may_be_turned():
    """The policy's forward is the arm's -y at -90 degrees."""
    linear, _, _ = asked((0.01, 0, 0, 0, 0, 0), feedback_1_s=0.0, base_yaw_deg=-90.0)
    assert linear.sum(axis=0) * TICK_S == pytest.approx(np.array([0, -0.01, 0]), abs=3e-4)


TURN = np.array([0.02, -0.03, 0.05])
TILTED = rotations.multiply(DOWN, rotations.from_vector(np.array([0.4, -0.3, 0.2])))
TURNS = {
    "base, vector": ({"rotation_frame": "base"}, lambda start: rotations.multiply(rotations.from_vector(TURN), start)),
    "tool, vector": ({"rotation_frame": "tool"}, lambda start: rotations.multiply(start, rotations.from_vector(TURN))),
    "base, euler": (
        {"rotation": "euler_xyz"}, lambda start: rotations.multiply(rotations.from_euler_xyz(TURN), start),
    ),
    "base turned": (
        {"base_yaw_deg": 90.0},
        lambda start: rotations.multiply(
            rotations.from_vector(rotations.rotate(rotations.about_z(math.pi / 2), TURN)), start
        ),
    ),
}  # fmt: skip


@pytest.mark.parametrize(("motion", "expected"), TURNS.values(), ids=TURNS)
def test_a_turn_is_one_of_the_frame_that_is_set_and_is_told_in_the_tools(motion, expected):
    """An arm that turns in its tool's frame ends where the policy's rotation leads."""
    linear, _, end = asked((0, 0, 0, *TURN), seconds=0.4, orientation=TILTED, feedback_1_s=0.0, **motion)
    assert np.linalg.norm(rotations.turn_between(end, expected(TILTED))) < 2e-3
    assert not linear.any()


def test_the_pull_makes_up_for_a_lag_and_no_further_than_the_windup():
    """An arm that stands still is asked for the step and its pull; what is beyond the windup is given up."""
    linear, _, _ = asked((0.04, 0, 0, 0, 0, 0), seconds=0.6, moves=False, feedback_1_s=2.0, windup_m=0.01)
    assert linear[-1][0] == pytest.approx(2.0 * 0.01)
    free, _, _ = asked((0.04, 0, 0, 0, 0, 0), seconds=0.6, moves=False, feedback_1_s=2.0, windup_m=0.1)
    assert free[-1][0] == pytest.approx(2.0 * 0.04, rel=0.02)


def test_the_pull_of_a_turn_is_bounded_too():
    """In radians."""
    _, angular, _ = asked((0, 0, 0, 0, 0, 0.3), seconds=0.5, moves=False, feedback_1_s=2.0, windup_rad=0.05)
    assert np.linalg.norm(angular[-1]) == pytest.approx(2.0 * 0.05)


def test_nothing_is_asked_before_it_begins():
    """Without a start there is no reference."""
    motion = Tracker(MotionSettings(), LIMITS).asked(arm_at(), 0.0)
    assert motion.is_rest
