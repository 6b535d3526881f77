"""Whatever comes in, no limit is passed: drawn scripts drive a controller, a driver and a tool on a virtual clock."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from stillframe_client.jaco2.ceilings import REACH_M, TICK_S
from stillframe_client.jaco2.core.controller import ZEROS_S, Controller
from stillframe_client.jaco2.core.watchdog import State
from stillframe_client.jaco2.domain import ArmState, Step, ToolPose

NEAR_M = 2e-4  # that true reports and any geometry may let the tool out, up to 0.1 s of latency
WEDGE_M = 4e-3  # with more latency, where the column narrows to a wall like a wedge
ANY = st.floats(width=64)
BOXES = [
    {"low_m": (-0.5, -0.7, 0.03), "high_m": (0.5, -0.15, 0.6), "column_m": 0.15},  # the defaults
    {"low_m": (-0.6, -0.6, 0.0), "high_m": (0.6, 0.2, 0.5), "column_m": 0.15},  # a wedge between column and wall
    {"low_m": (-0.1, -0.6, 0.0), "high_m": (0.6, 0.5, 0.35), "column_m": 0.3},
    {"low_m": (-0.5, -0.5, -0.2), "high_m": (0.5, 0.5, 0.5), "column_m": 0.0},
]
LIMITS = st.builds(
    lambda box, speed, linear, angular, acceleration, turning, jerk, latency: {
        **box, "speed": speed, "linear_m_s": linear, "angular_rad_s": angular, "linear_m_s2": acceleration,
        "angular_rad_s2": turning, "latency_s": latency, "step_m": 0.1, "step_rad": 0.6,
        "linear_m_s3": jerk and max(jerk, 5 * acceleration),
    },
    st.sampled_from(BOXES),
    st.sampled_from([0.25, 1.0]),
    st.floats(0.01, 0.2),
    st.floats(0.05, 1.07),
    st.floats(0.05, 0.64),
    st.floats(0.2, 2.75),
    st.sampled_from([0.0, 0.0, 0.5, 20.0]),
    st.sampled_from([0.02, 0.1, 0.3, 0.5]),
)  # fmt: skip
PULL = st.sampled_from([0.0, 1.5, 4.0])
SHARE = st.floats(0, 1)
LONG = st.integers(1, 40)  # ticks


@st.composite
def rigs_of(draw, rigs, limits=LIMITS, latency=lambda most: st.floats(0, most), watch=()):
    """A rig with drawn limits and a drawn arm, which starts inside."""
    drawn = draw(limits)
    settings = rigs.settings_of(drawn, dict(watch), feedback_1_s=draw(PULL))
    low, high = np.array(settings.limits.low_m), np.array(settings.limits.high_m)
    low[2] = max(low[2], settings.limits.floor_m)
    start = low + (high - low) * np.array([draw(SHARE), draw(SHARE), draw(SHARE)])
    assume(rigs.outside_m(settings.limits, start) == 0)
    assume(math.hypot(*start) < REACH_M)
    world = rigs.World(
        tuple(start), draw(st.floats(0, 0.3)), draw(latency(min(settings.limits.latency_s - TICK_S, 0.1))),
        draw(st.sampled_from([0.02, 0.05, 0.1, 0.2])),
    )  # fmt: skip
    rig = rigs.Rig(settings, world)
    rig.arm()
    return rig


def told(report, position=None, orientation=None, **other):
    """The report, changed."""
    pose = ToolPose(
        report.pose.position_m if position is None else position,
        report.pose.orientation if orientation is None else np.array(orientation),
    )
    return replace(report, pose=pose, **other)


LIES = {
    "nan": lambda report, _: told(report, report.pose.position_m * math.nan),
    "jump": lambda report, shift: told(report, report.pose.position_m + shift),
    "huge": lambda report, _: told(report, np.full(3, 1e300)),
    "no rotation": lambda report, _: told(report, orientation=[0.0] * 4),
    "hand": lambda report, _: told(report, closure=math.nan),
    "of the past": lambda report, _: replace(report, time_s=report.time_s - 0.3, seq=report.seq + 10_000),
    "of the future": lambda report, _: replace(report, time_s=report.time_s + 5.0),
    "no time": lambda report, _: replace(report, time_s=math.nan),
    "none": lambda _report, _: None,
}
DELTA = st.one_of(
    st.lists(st.floats(-0.05, 0.05), min_size=6, max_size=6),
    st.lists(st.floats(-0.3, 0.3), min_size=6, max_size=6),
    st.lists(ANY, min_size=6, max_size=6),
)
SHIFT = st.lists(st.floats(-0.06, 0.06), min_size=3, max_size=3).map(np.array)
STEPS = st.tuples(
    st.just("step"), DELTA, st.one_of(SHARE, ANY), st.one_of(st.just(0.1), ANY), st.one_of(st.just(0.3), ANY),
    st.integers(-2, 2), LONG,
)  # fmt: skip
GOOD_STEPS = st.tuples(
    st.just("step"), st.lists(st.floats(-0.05, 0.05), min_size=6, max_size=6), SHARE, st.just(0.1), st.just(0.3),
    st.just(1), LONG,
)  # fmt: skip
ORDERS = st.tuples(st.just("orders"), st.lists(st.sampled_from(["arm", "disarm", "clear", "stop"]), max_size=4), LONG)
AGAIN = st.tuples(st.just("again"), LONG)
EVENTS = st.one_of(
    GOOD_STEPS,
    GOOD_STEPS,
    STEPS,
    ORDERS,
    AGAIN,
    st.tuples(st.just("wait"), st.integers(1, 120)),
    st.tuples(st.just("gap"), st.one_of(st.floats(0.0098, 0.04), st.floats(0.0098, 0.6))),
    st.tuples(st.just("silent"), LONG),
    st.tuples(st.just("error"), LONG),
    st.tuples(st.just("inbox"), st.sampled_from(["garbage", "stop"])),
    st.tuples(st.just("lie"), st.sampled_from(sorted(LIES)), SHIFT, LONG),
    st.tuples(st.just("frozen"), LONG),
)


def make_step(rig, delta, gripper, lasts_s, good_for_s, ahead, ticks):
    """A step of the bridge, good or not, numbered on, again or back."""
    rig.seq += ahead
    rig.tick(Step(rig.seq, np.array(delta), gripper, lasts_s, rig.now_s + good_for_s))
    rig.run(ticks * TICK_S)


def begin_again(rig, ticks):
    """As an operator would: disarm or clear, wait for rest, arm, and a step."""
    rig.run(0.7, "disarm", "clear")
    rig.run(ticks * TICK_S, "arm", rig.step((0.01, 0.005, -0.01, 0.02, 0, 0)))


def lie(rig, kind, shift, ticks):
    """The arm's reports are wrong for a while."""
    rig.run(ticks * TICK_S, report=lambda report: LIES[kind](report, shift))


def freeze(rig, ticks):
    """The arm repeats a report."""
    last = rig.report()
    rig.run(ticks * TICK_S, report=lambda _: last)


HAPPEN = {
    "step": make_step,
    "again": begin_again,
    "lie": lie,
    "frozen": freeze,
    "orders": lambda rig, orders, ticks: rig.run(ticks * TICK_S, *orders),
    "wait": lambda rig, ticks: rig.run(ticks * TICK_S),
    "gap": lambda rig, gap_s: rig.tick(gap_s=gap_s),
    "silent": lambda rig, ticks: rig.run(ticks * TICK_S, heartbeat=False),
    "error": lambda rig, _: rig.tick(error="the arm is gone"),
    "inbox": lambda rig, kind: rig.tick(**{kind: "a reason"}),
}


def play(rig, event):
    """Let one drawn event happen."""
    HAPPEN[event[0]](rig, *event[1:])


def leave(rig):
    """The bridge goes; what is left of the run."""
    limits = rig.settings.limits
    rig.tick(gone=True, heartbeat=False)
    most_s = limits.linear_m_s / limits.linear_m_s2 + limits.angular_rad_s / limits.angular_rad_s2 + 0.5 + ZEROS_S
    rig.run(most_s + 2 * TICK_S, heartbeat=False)


@given(st.data())
def test_no_input_passes_a_limit_or_leaves_the_arm_moving(rigs, data):
    """Speed, acceleration, jerk, states, zeros and a stop at the end: as core/conftest.py's Audit holds every tick."""
    rig = data.draw(rigs_of(rigs))
    for event in data.draw(st.lists(EVENTS, max_size=25)):
        play(rig, event)
    leave(rig)
    assert rig.controller.is_at_rest
    assert rig.tick("arm", rig.step()).command is None


@given(st.data())
def test_the_same_inputs_give_the_same_outputs(rigs, data):
    """What a log holds can be decided again, to the last bit."""
    rig = data.draw(rigs_of(rigs))
    for event in data.draw(st.lists(EVENTS, max_size=8)):
        play(rig, event)
    again = Controller(rig.settings)
    for given_, tick in zip(rig.inputs, rig.ticks, strict=True):
        assert bits(again.tick(*given_)) == bits(tick)


def bits(tick):
    """A tick as text that differs where any bit of a number does."""
    sent = None if tick.command is None else (
        tick.command.linear_m_s.tolist(), tick.command.angular_rad_s.tolist(), tick.command.closure
    )  # fmt: skip
    return repr((tick.state, sent, tick.calls, tick.asked.linear.tolist(), tick.asked.angular.tolist(),
                 tick.reasons, tick.limits, tick.notes))  # fmt: skip


AIMS = st.tuples(
    st.tuples(SHARE, SHARE, SHARE),  # a place in the box
    st.one_of(st.just(0.0), st.floats(0, 1)),  # and so much further
    st.integers(1, 12),  # tenths of a second
    st.sampled_from(["", "", "", "", "hold", "stop", "disarm"]),
)


def aim(rig, place, further, tenths, ending):
    """Go towards a place of the box, or past it, at the most; then perhaps come to rest, or be stopped."""
    low, high = (np.array(corner) for corner in (rig.settings.limits.low_m, rig.settings.limits.high_m))
    for _ in range(tenths):
        way = low + (high - low) * np.array(place) - rig.place_m
        way = way + np.sign(way) * further
        length = float(np.linalg.norm(way))
        delta = np.zeros(6)
        delta[:3] = way * min(1.0, 0.09 / max(length, 1e-9))
        rig.run(0.1, rig.step(delta, lasts_s=0.1, good_for_s=0.15))
    if ending == "hold":
        rig.run(0.4)
    elif ending:
        rig.run(0.4, ending)
        while not rig.controller.is_at_rest:
            rig.tick()
        rig.tick("clear")
        rig.tick("arm")


WALLS = {"stall_s": 5.0, "stall_m": 0.2, "stall_rad": 2.0, "jump_m": 0.2}  # pressing on a wall is no stall


@settings(max_examples=settings.default.max_examples // 2)  # seconds of ticks each
@given(st.data())
def test_a_tool_that_starts_inside_stays_inside(rigs, data):
    """Reports are true and late, latency is what it is said to be at the most: out by fractions of a millimetre."""
    rig = data.draw(
        rigs_of(rigs, latency=lambda most: st.one_of(st.just(most), st.floats(0, most)), watch=WALLS.items())
    )
    for each in data.draw(st.lists(AIMS, max_size=5)):
        aim(rig, *each)
    assert rig.furthest_outside_m <= (NEAR_M if rig.settings.limits.latency_s <= 0.1 else WEDGE_M)


@settings(max_examples=settings.default.max_examples // 2)  # seconds of ticks each
@given(st.data(), st.floats(0, 0.02))
def test_a_report_that_is_wrong_lets_the_tool_out_by_no_more(rigs, data, wrong_m):
    """Each report is off by up to so much, each axis by itself, either way."""
    rig = data.draw(rigs_of(rigs, watch=WALLS.items()))
    chance, seen = np.random.default_rng(data.draw(st.integers(0, 99))), {}

    def noisy(report):
        shift = seen.setdefault(report.seq, chance.uniform(-wrong_m, wrong_m, 3) / math.sqrt(2))
        return told(report, report.pose.position_m + shift)

    exact = rig.tick
    rig.tick = lambda *messages, **options: exact(*messages, **{"report": noisy, **options})
    for each in data.draw(st.lists(AIMS, max_size=4)):
        aim(rig, *each)
    assert rig.furthest_outside_m <= wrong_m + (NEAR_M if rig.settings.limits.latency_s <= 0.1 else WEDGE_M)


OUT_M = {"left": (-0.55, -0.4, 0.3), "right": (0.55, -0.4, 0.3), "near": (0.3, -0.1, 0.3), "far": (0.1, -0.75, 0.3),
         "high": (0.0, -0.4, 0.65), "low": (0.0, -0.4, 0.0), "corner": (0.55, -0.72, 0.3)}  # fmt: skip


@pytest.mark.few(2)
@pytest.mark.parametrize("start_m", OUT_M.values(), ids=OUT_M)
def test_from_outside_the_way_back_is_free_and_no_way_leads_further_out(rigs, start_m):
    """It is asked further out and stays; it is asked back and comes in."""
    rig = rigs.Rig(rigs.settings_of(), rigs.World(start_m, report_s=0.05))
    rig.arm()
    out = rig.outside_m(rig.place_m)
    middle = np.array([0.0, -0.425, 0.315])
    away = rig.place_m - middle
    rig.follow(1.0, away / np.linalg.norm(away) * 0.1)
    assert rig.furthest_outside_m <= out + 1e-9
    for _ in range(60):
        way = middle - rig.place_m
        rig.run(0.1, rig.step([*(way * min(1.0, 0.01 / float(np.linalg.norm(way)))), 0, 0, 0]))
    assert rig.outside_m(rig.place_m) == 0
    assert rig.furthest_outside_m <= out + 1e-9


@pytest.mark.parametrize("angle", range(0, 360, 60))
def test_a_tool_too_near_the_column_can_leave_it(rigs, angle):
    """Inside the column every way out is open, and none leads further in."""
    settings = rigs.settings_of({"low_m": (-0.5, -0.5, 0.0), "high_m": (0.5, 0.5, 0.5), "column_m": 0.3})
    way = np.array([math.cos(math.radians(angle)), math.sin(math.radians(angle)), 0.0])
    rig = rigs.Rig(settings, rigs.World(tuple(way * 0.2 + [0, 0, 0.2]), report_s=0.05))
    rig.arm()
    rig.follow(0.5, -way * 0.1)
    assert math.hypot(*rig.place_m[:2]) >= 0.2 - 1e-9
    rig.follow(2.0, way * 0.1)
    assert math.hypot(*rig.place_m[:2]) > 0.3


@pytest.mark.few(3)
@pytest.mark.parametrize("ending", ["hold", "disarm", "stop"])
@pytest.mark.parametrize(("linear_m_s", "linear_m_s2"), [(0.1, 0.4), (0.2, 0.64), (0.2, 0.05)])
def test_coming_to_rest_beside_a_wall_does_not_cross_it(rigs, ending, linear_m_s, linear_m_s2):
    """Fast along the table and slightly down: the component towards the table is braked first, in every state."""
    limits = {"linear_m_s": linear_m_s, "linear_m_s2": linear_m_s2, "latency_s": 0.05, "low_m": (-0.9, -0.7, 0.0),
              "high_m": (0.6, -0.15, 0.6)}  # fmt: skip
    for height_m in (0.04, 0.05, 0.07):
        rig = rigs.Rig(rigs.settings_of(limits, WALLS), rigs.World((-0.8, -0.3, height_m), latency_s=0.03))
        rig.arm()
        rig.follow(3.0, (0.2, 0.0, -0.02))
        rig.run(1.0, *([] if ending == "hold" else [ending]))
        assert rig.ticks[-1].state is {"hold": State.HOLD, "disarm": State.DISARMED, "stop": State.FAULT}[ending]
        assert rig.furthest_outside_m < 1e-6


def test_reports_are_whole(rigs):
    """The rig's own reports are what the arm's are: the lies above differ from them by what they say."""
    rig = rigs.Rig(rigs.settings_of())
    assert isinstance(rig.report(), ArmState)
    assert rig.tick().state is State.DISARMED


HEAD_ON = {
    "jerk": ({"linear_m_s3": 2.0, "latency_s": 0.05}, (0.3, -0.4, 0.3), (0.2, 0.0, 0.0)),
    "column": ({"latency_s": 0.3, "high_m": (0.5, 0.5, 0.6)}, (0.0, -0.3, 0.3), (0.0, 0.2, 0.0)),
    "corner": ({"linear_m_s2": 0.1, "latency_s": 0.05}, (0.3, -0.35, 0.4), (0.2, 0.2, 0.2)),
}


@pytest.mark.parametrize(("limits", "start_m", "velocity"), HEAD_ON.values(), ids=HEAD_ON)
def test_at_full_speed_it_stops_before_what_is_in_the_way(rigs, limits, start_m, velocity):
    """With smoothing under way, towards the column with commands under way, into three walls at once."""
    settings = rigs.settings_of({"linear_m_s": 0.2, **limits}, WALLS, feedback_1_s=0.0)
    rig = rigs.Rig(settings, rigs.World(start_m, latency_s=settings.limits.latency_s - 0.02, report_s=0.05))
    rig.arm()
    rig.follow(4.0, velocity)
    assert rig.furthest_outside_m < 1e-4
