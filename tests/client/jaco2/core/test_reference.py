"""The reference that the steps move, and the pull of the arm towards it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stillframe_client.jaco2.arms.driver import DriverModel
from stillframe_client.jaco2.arms.kinematic import KinematicBody
from stillframe_client.jaco2.ceilings import TICK_S
from stillframe_client.jaco2.core.reference import Place, Reference
from stillframe_client.jaco2.core.tracking import Tracker
from stillframe_client.jaco2.domain import ArmState, Step, ToolPose, Twist
from stillframe_client.jaco2.settings import LimitSettings, MotionSettings

HERE = Place(np.array([0.0, -0.4, 0.3]), np.array([0.0, 0.0, 0.0, 1.0]))
LIMITS = LimitSettings(speed=1.0, linear_m_s=0.2, linear_m_s2=0.64, angular_rad_s=1.0, angular_rad_s2=2.75)
NONE = np.zeros(3)
SMALL = st.floats(-0.03, 0.03)
MOVES = st.lists(st.tuples(SMALL, SMALL, SMALL), min_size=1, max_size=6)


def played(reference: Reference, moves: Any, lasts_s: float = 0.1, rest_s: float = 1.5) -> tuple[Any, Any]:
    """Places and velocities, tick by tick, of steps that follow each other and a rest."""
    places, speeds, now_s = [reference.place.position_m], [reference.linear_m_s], 0.0
    for move in (*moves, None):
        if move is not None:
            reference.take(np.asarray(move, float), NONE, lasts_s, now_s)
        for _ in range(round((rest_s if move is None else lasts_s) / TICK_S)):
            now_s += TICK_S
            reference.advance(now_s)
            places.append(reference.place.position_m)
            speeds.append(reference.linear_m_s)
    return np.array(places), np.array(speeds)


@given(st.tuples(SMALL, SMALL, SMALL))
def test_a_step_alone_is_made_whole(move: tuple[float, float, float]) -> None:
    """What the run-up takes of a step is made good after its time, if no other step comes."""
    places, _ = played(Reference(HERE, LIMITS, 0.0), [move])

    assert np.allclose(places[-1] - places[0], move, atol=6e-4)


@given(MOVES)
def test_the_limits_hold_for_any_steps(moves: Any) -> None:
    """Speed and acceleration of the reference are within the settings, and it comes to rest."""
    places, speeds = played(Reference(HERE, LIMITS, 0.0), moves)

    assert np.linalg.norm(speeds, axis=1).max() <= 0.2 + 1e-9
    assert np.linalg.norm(np.diff(speeds, axis=0), axis=1).max() <= 0.64 * TICK_S + 1e-9
    assert np.linalg.norm(np.diff(places, axis=0), axis=1).max() <= 0.2 * TICK_S + 1e-9
    assert np.linalg.norm(speeds[-1]) < 1e-3


def test_steps_that_follow_each_other_are_a_velocity() -> None:
    """After the run-up the reference goes as fast as the steps say, and never faster to make the run-up good."""
    _, speeds = played(Reference(HERE, LIMITS, 0.0), [(0.01, 0, 0)] * 20)

    assert speeds[50:200, 0] == pytest.approx(0.1)
    assert speeds[:, 0].max() == pytest.approx(0.1)


def test_a_step_of_nothing_ends_the_motion_where_it_ends() -> None:
    """What the braking takes is not gone back: a policy that says stop sees the arm stop."""
    places, _ = played(Reference(HERE, LIMITS, 0.0), [(0.015, 0, 0)] * 5 + [(0, 0, 0)])

    assert (np.diff(places[:, 0]) >= -1e-12).all()


def test_rotation_is_finished_too() -> None:
    """A turn alone is made whole, about its own axis."""
    reference = Reference(HERE, LIMITS, 0.0)
    reference.take(NONE, np.array([0.0, 0.0, 0.05]), 0.1, 0.0)
    for tick in range(1, 101):
        reference.advance(tick * TICK_S)

    assert 2 * reference.place.orientation[2] == pytest.approx(0.05, abs=2e-3)


def step(number: int, x_m: float, now_s: float) -> Step:
    """A step along x of the base frame."""
    return Step(number, np.array([x_m, 0, 0, 0, 0, 0]), 1.0, 0.1, now_s + 0.3)


def report(number: int, time_s: float, position_m: Any) -> ArmState:
    """A report with that position."""
    return ArmState(number, time_s, ToolPose(np.asarray(position_m, float), HERE.orientation))


def test_an_arm_that_only_follows_late_is_not_asked_for_more() -> None:
    """Where it is exactly the configured latency behind, what is asked for is the reference's own motion."""
    tracker, twin = Tracker(MotionSettings(), LIMITS), Reference(HERE, LIMITS, 0.0)
    tracker.begin(report(0, 0.0, HERE.position_m), 0.0)
    behind, places = round(LIMITS.latency_s / TICK_S), [HERE.position_m]
    for tick in range(1, 100):
        now_s = tick * TICK_S
        if tick % 10 == 1:
            tracker.take(step(tick, 0.01, now_s), now_s)
            twin.take(np.array([0.01, 0, 0]), NONE, 0.1, now_s)
        twin.advance(now_s)
        places.append(twin.place.position_m)
        asked = tracker.asked(report(tick, now_s, places[max(tick - behind, 0)]), now_s)
        assert asked.linear == pytest.approx(twin.linear_m_s, abs=2e-3)


@pytest.mark.parametrize("under_travel", [0.0, 0.2])
def test_an_arm_that_makes_less_of_its_way_is_made_to_arrive(under_travel: float) -> None:
    """20 cm in 2 s, reported ten times a second: within 1 cm, where open loop would miss 4 cm."""
    limits, driver = LIMITS, DriverModel(KinematicBody(under_travel=under_travel), 0.0)
    tracker, start = Tracker(MotionSettings(), limits), driver.state
    tracker.begin(start, 0.0)
    for tick in range(1, 351):
        now_s = tick * TICK_S
        if tick % 10 == 1 and tick < 200:
            tracker.take(step(tick, 0.01, now_s), now_s)
        asked = tracker.asked(driver.state, now_s)
        driver.command(Twist(asked.linear, asked.angular, 0.0))
        driver.advance(now_s)

    assert driver.body.pose().position_m[0] - start.pose.position_m[0] == pytest.approx(0.2, abs=0.01)


def test_a_blocked_arm_stores_nothing_up() -> None:
    """However long it is asked to move on, the pull is that of windup_m, and gone when it is let go."""
    motion = MotionSettings()
    tracker = Tracker(motion, LIMITS)
    tracker.begin(report(0, 0.0, HERE.position_m), 0.0)
    for tick in range(1, 400):
        now_s = tick * TICK_S
        if tick % 10 == 1 and tick < 300:
            tracker.take(step(tick, 0.01, now_s), now_s)
        asked = tracker.asked(report(tick, now_s, HERE.position_m), now_s)
        assert np.linalg.norm(asked.linear) <= 0.1 + motion.feedback_1_s * motion.windup_m + 1e-9

    assert np.linalg.norm(asked.linear) <= motion.feedback_1_s * motion.windup_m + 1e-9
