from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from stillframe_client.jaco2.ceilings import ANGULAR_RAD_S2, LINEAR_M_S2, TICK_S
from stillframe_client.jaco2.core.safety import REST, Motion, SafetyFilter, _Allowed
from stillframe_client.jaco2.domain import ArmState, ToolPose
from stillframe_client.jaco2.settings import LimitSettings

MIDDLE = (0.0, -0.4, 0.3)


def arm_at(position=MIDDLE, time_s=0.0):
    """A report."""
    return ArmState(1, time_s, ToolPose(np.array(position), np.array([1.0, 0.0, 0.0, 0.0])))


def motion(linear=(0.0, 0.0, 0.0), angular=(0.0, 0.0, 0.0)):
    """What is asked for."""
    return Motion(np.array(linear, float), np.array(angular, float))


def commands(asked, *, ticks=100, position=MIDDLE, moves=False, hard=False, begin=None, **limits):
    """What is sent when the same is asked each tick of an arm that reports each tick; and the last tick's reasons."""
    safety = begin or SafetyFilter(LimitSettings(**{"speed": 1.0, "latency_s": 0.02, **limits}))
    place, sent, reasons = np.array(position), [], []
    for k in range(ticks):
        command, reasons = safety.next(asked, arm_at(place, k * TICK_S), k * TICK_S, hard=hard)
        place = place + command.linear * TICK_S * moves
        sent.append(np.concatenate([command.linear, command.angular]))
    return np.array(sent), reasons


def test_what_is_within_the_limits_passes_unchanged():
    """After the run-up, and without a reason."""
    sent, reasons = commands(motion((0.05, -0.02, 0.03), (0.1, 0.2, -0.3)))
    assert sent[-1].tolist() == [0.05, -0.02, 0.03, 0.1, 0.2, -0.3]
    assert not reasons


def test_too_fast_is_shortened_and_keeps_its_direction():
    """The whole vector by its length: share of speed times limit."""
    sent, reasons = commands(motion((0.3, 0.0, 0.4), (3.0, 4.0, 0.0)), speed=0.5)
    assert sent[-1] == pytest.approx([0.03, 0.0, 0.04, 0.15, 0.2, 0.0])
    assert reasons == ["speed"]


def test_each_tick_changes_by_no_more_than_the_acceleration():
    """The run-up is a ramp: at 0.4 m/s2 and 2 rad/s2 4 mm/s and 20 mrad/s a tick."""
    sent, _ = commands(motion((0.1, 0, 0), (0, 0.5, 0)))
    assert sent[:4, 0] == pytest.approx([0.004, 0.008, 0.012, 0.016])
    assert sent[:4, 4] == pytest.approx([0.02, 0.04, 0.06, 0.08])


@pytest.mark.parametrize("hard", [False, True])
def test_coming_to_rest_is_by_the_limits_or_by_the_ceilings(hard):
    """A fault brakes as hard as the arm can."""
    safety = SafetyFilter(LimitSettings(speed=1.0))
    commands(motion((0.1, 0, 0), (0, 0.5, 0)), begin=safety)
    sent, _ = commands(REST, begin=safety, hard=hard)
    linear, angular = (LINEAR_M_S2, ANGULAR_RAD_S2) if hard else (0.4, 2.0)
    assert sent[0, 0] == pytest.approx(0.1 - linear * TICK_S)
    assert sent[0, 4] == pytest.approx(0.5 - angular * TICK_S)
    assert not sent[round(max(0.1 / linear, 0.5 / angular) / TICK_S) + 1 :].any()


WALLS = {
    "left": ((-0.45, -0.4, 0.3), (-1, 0, 0), "box"), "right": ((0.45, -0.4, 0.3), (1, 0, 0), "box"),
    "far": ((0.0, -0.65, 0.3), (0, -1, 0), "box"), "near": ((0.3, -0.2, 0.3), (0, 1, 0), "box"),
    "up": ((0.0, -0.4, 0.55), (0, 0, 1), "box"), "down": ((0.0, -0.4, 0.1), (0, 0, -1), "floor"),
    "column": ((0.2, -0.2, 0.3), (-1, 1, 0), "column"),
}  # fmt: skip


@pytest.mark.parametrize(("position", "way", "wall"), WALLS.values(), ids=WALLS)
def test_every_wall_stops_what_leads_through_it_and_lets_slide_what_leads_along(position, way, wall):
    """It says which wall, ends within a millimetre inside it, and the part along the wall goes on."""
    limits = {"high_m": (0.5, 0.5, 0.6)} if wall == "column" else {}
    direction = np.array(way) / np.linalg.norm(way)
    along = np.array([direction[1], -direction[0], 0.0]) if wall == "column" else np.roll(direction, 1)
    sent, reasons = commands(motion(direction * 0.09), position=position, ticks=400, moves=True, **limits)
    assert wall in reasons
    assert not np.abs(sent[-1] @ [*direction, 0, 0, 0]) > 1e-3
    end = np.array(position) + sent[:, :3].sum(axis=0) * TICK_S
    low, high = np.array([-0.5, -0.7, 0.03]), np.array(limits.get("high_m", (0.5, -0.15, 0.6)))
    room = math.hypot(*end[:2]) - 0.15 if wall == "column" else min((end - low).min(), (high - end).min())
    assert -1e-9 <= room < 0.002
    slid, _ = commands(motion(direction * 0.05 + along * 0.05), position=position, ticks=60, moves=True, **limits)
    assert slid[-1] @ [*along, 0, 0, 0] > 0.03


def test_what_is_on_its_way_counts():
    """Commands that a report cannot have seen: with the same report, more latency stops further from the wall."""
    ends = []
    for latency_s in (0.02, 0.3):
        safety = SafetyFilter(LimitSettings(speed=1.0, latency_s=latency_s))
        place, places = np.array([0.4, -0.4, 0.3]), []
        for k in range(300):
            report = arm_at(places[-30] if k >= 30 else (0.4, -0.4, 0.3), k * TICK_S)  # of 0.3 s ago, as of now
            place = place + safety.next(motion((0.1, 0, 0)), report, k * TICK_S)[0].linear * TICK_S
            places.append(place)
        ends.append(place[0])
    assert ends[1] <= 0.5 + 1e-9 < 0.502 < ends[0]


def test_without_a_pose_there_is_no_box():
    """Rest may be asked for all the same."""
    safety = SafetyFilter(LimitSettings(speed=1.0))
    assert safety.next(REST, None, 0.0)[0].is_rest


def test_jerk_is_bounded_where_it_is_set():
    """The second difference of the commands, in both directions of the ramp."""
    safety = SafetyFilter(LimitSettings(speed=1.0, linear_m_s3=4.0))
    up, _ = commands(motion((0.1, 0, 0)), begin=safety)
    down, _ = commands(REST, begin=safety)
    bends = np.abs(np.diff([0.0, 0.0, *up[:, 0], *down[:, 0]], n=2))
    assert bends.max() <= 4.0 * TICK_S**2 + 1e-12
    assert up[-1, 0] == pytest.approx(0.1)
    assert not down[-1].any()


def test_a_jerk_that_would_hold_commands_back_for_long_is_refused():
    """The settings say from where it is possible."""
    with pytest.raises(ValueError, match=r"expected 0, or 2 or more"):
        LimitSettings(linear_m_s3=1.9, linear_m_s2=0.4)
    assert LimitSettings(linear_m_s3=2.0, linear_m_s2=0.4).linear_m_s3 == 2.0


def test_after_rest_of_the_arms_own_the_ramp_begins_anew():
    """Also what was still to be smoothed is forgotten."""
    safety = SafetyFilter(LimitSettings(speed=1.0, linear_m_s3=4.0))
    commands(motion((0.1, 0, 0)), begin=safety)
    safety.came_to_rest()
    assert safety.next(REST, arm_at(), 2.0)[0].is_rest


SPEED = st.floats(0, 0.3)
VELOCITY = st.tuples(*[st.floats(-0.3, 0.3)] * 3).map(np.array)
INWARD = st.floats(0, 2 * math.pi).map(lambda angle: np.array([math.cos(angle), math.sin(angle)]))


def constraints(low, high, inward, inward_m_s):
    """The set as half-planes of x and y: normals [5, 2] and how far along each [5]."""
    normals = np.array([[1.0, 0.0], [-1.0, 0.0], [0.0, 1.0], [0.0, -1.0], inward])
    return normals, np.array([high[0], low[0], high[1], low[1], inward_m_s])


@given(st.tuples(*[SPEED] * 3).map(np.array), st.tuples(*[SPEED] * 3).map(np.array), INWARD, SPEED, VELOCITY)
def test_the_nearest_velocity_is_allowed_and_none_is_nearer(low, high, inward, inward_m_s, velocity):
    """Against every corner and every foot of a perpendicular of the set, tried out."""
    found = _Allowed(low, high, inward, inward_m_s).nearest(velocity, [])
    normals, bounds = constraints(low, high, inward, inward_m_s)
    assert (normals @ found[:2] <= bounds + 1e-9).all()
    assert found[2] == min(max(velocity[2], -low[2]), high[2])
    feet = [velocity[:2] - n * (n @ velocity[:2] - b) for n, b in zip(normals, bounds, strict=True)]
    corners = [
        np.linalg.solve(normals[list(pair)], bounds[list(pair)])
        for pair in itertools.combinations(range(5), 2)
        if abs(np.linalg.det(normals[list(pair)])) > 1e-6
    ]
    allowed = [point for point in (velocity[:2], *feet, *corners) if (normals @ point <= bounds + 1e-12).all()]
    assume(allowed)
    best = min(float(np.linalg.norm(point - velocity[:2])) for point in allowed)
    assert float(np.linalg.norm(found[:2] - velocity[:2])) <= best + 1e-6
