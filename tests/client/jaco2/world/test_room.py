"""The simulated arm behind the driver's queue, in the real arm's base frame, on a clock of the test's own."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from stillframe_client.jaco2 import rotations
from stillframe_client.jaco2.ceilings import TICK_S
from stillframe_client.jaco2.core.controller import Controller
from stillframe_client.jaco2.core.messages import Inbox, Order
from stillframe_client.jaco2.core.watchdog import State
from stillframe_client.jaco2.domain import Step, Twist
from stillframe_client.jaco2.world.room import Room
from stillframe_client.sim import JacoEnv

AHEAD = (0.0, -0.1, 0.0)  # of the base frame: away from the connector panel
MakeTwist = Callable[..., Twist]


def drive(clocked: Any, settings: Any, act: Callable[[int], Any], most_steps: int) -> State:
    """Play a policy's actions [7], one each 100 ms, through the streamer's decisions."""
    controller, room = Controller(settings), clocked.room
    controller.tick(Inbox((Order("arm"),), heartbeat=True), room.state, clocked.now_s)
    for number in range(most_steps):
        action = np.asarray(act(number), float)
        step = Step(number, action[:6], float(action[6]), 0.1, clocked.now_s + 0.3)
        for point in range(10):
            told = (step,) if point == 0 else ()
            arm = replace(room.state, time_s=room.state.time_s)
            tick = controller.tick(Inbox(told, heartbeat=True), arm, clocked.now_s)
            clocked.play(tick.command)
        if room.verdict()["done"] or tick.state is State.FAULT:
            break
    return controller.state


def test_forward_leads_away_from_the_panel(clocked: Any, twist: MakeTwist) -> None:
    """-y of the base frame moves the tool further from the base, by what was told but for the servos' lag."""
    clocked.begin()
    before = clocked.room.state.pose.position_m
    clocked.play(twist(AHEAD), 100)
    clocked.play(None, 100)
    moved = clocked.room.state.pose.position_m - before

    assert np.allclose(moved, [0, -0.1, 0], atol=0.004)
    assert np.hypot(*(before + moved)[:2]) > np.hypot(*before[:2])


def test_left_and_up_are_the_base_frames(clocked: Any, twist: MakeTwist) -> None:
    """+x of the base frame is the simulation's +y, its left; z is z."""
    clocked.begin()
    before = clocked.room.state.pose.position_m
    clocked.play(twist((0.05, 0, 0.05)), 100)
    clocked.play(None, 100)
    moved = clocked.room.state.pose.position_m - before

    assert np.allclose(moved, [0.05, 0, 0.05], atol=0.004)


def test_the_configured_yaw_sends_a_policys_forward_step_away_from_the_base(clocked: Any, settings: Any) -> None:
    """configs/jaco2-sim.toml turns x of the policy's frame into the arm's own forward."""
    clocked.begin()
    before = clocked.room.state.pose.position_m
    state = drive(clocked, settings, lambda _: [0.01, 0, 0, 0, 0, 0, 1], 10)
    moved = clocked.room.state.pose.position_m - before

    assert state is State.RUNNING
    assert moved[1] < -0.05
    assert abs(moved[0]) < 0.01


def test_rotation_is_about_the_tools_own_axes(clocked: Any, twist: MakeTwist) -> None:
    """A turn about the tool's z, which points down, is one about -z of the base."""
    clocked.begin()
    before = clocked.room.state.pose
    clocked.play(twist(angular=(0, 0, 0.4)), 100)
    clocked.play(None, 100)
    after = clocked.room.state.pose
    turned = rotations.turn_between(before.orientation, after.orientation)

    assert rotations.rotate(before.orientation, np.array([0.0, 0, 1]))[2] < -0.99
    assert np.allclose(turned, [0, 0, -0.4], atol=0.03)


def test_without_a_command_the_tool_stays(clocked: Any) -> None:
    """An empty queue is rest: no drift."""
    clocked.begin()
    before = clocked.room.state.pose.position_m
    clocked.play(None, 300)

    assert np.linalg.norm(clocked.room.state.pose.position_m - before) < 1e-3


def test_a_box_holds_the_commanded_pose(clocked: Any, twist: MakeTwist) -> None:
    """However long it is told to go down, the tool does not go through the table."""
    clocked.begin()
    clocked.play(twist((0, 0, -0.2)), 400)

    assert clocked.room.state.pose.position_m[2] > 0.015


def test_closure_moves_the_hand(clocked: Any, twist: MakeTwist) -> None:
    """1 closes it, 0 opens it, one half leaves it between; the report says so."""
    clocked.begin()
    for closure in (1.0, 0.0, 0.5):
        clocked.play(twist(closure=closure), 100)
        assert clocked.room.state.closure == pytest.approx(closure, abs=0.06)


def test_the_hand_stays_without_commands(clocked: Any, twist: MakeTwist) -> None:
    """What the fingers were told last holds when the queue is empty: a cube is not let go of."""
    clocked.begin()
    clocked.play(twist(closure=1.0), 100)
    clocked.play(None, 100)

    assert clocked.room.state.closure > 0.9


def test_stop_lets_nothing_in_until_start(clocked: Any, twist: MakeTwist) -> None:
    """Commands after a stop move nothing; after a start they do."""
    clocked.begin()
    clocked.room.stop()
    before = clocked.room.state.pose.position_m
    clocked.play(twist(AHEAD), 50)
    clocked.play(None, 20)
    assert np.linalg.norm(clocked.room.state.pose.position_m - before) < 1e-3

    clocked.room.start()
    clocked.play(twist(AHEAD), 50)
    clocked.play(None, 20)
    assert np.linalg.norm(clocked.room.state.pose.position_m - before) > 0.03


def test_home_is_where_it_began(clocked: Any, twist: MakeTwist) -> None:
    """From elsewhere the arm goes to its home by itself, and opens its hand."""
    clocked.begin()
    home = clocked.room.state.pose.position_m
    clocked.play(twist((0.1, -0.1, -0.05), closure=1.0), 120)
    clocked.room.home()
    clocked.play(None, 500)

    assert np.linalg.norm(clocked.room.state.pose.position_m - home) < 0.01
    assert clocked.room.state.closure < 0.06


def test_a_command_ends_the_way_home(clocked: Any, twist: MakeTwist) -> None:
    """The arm does not fight with what commands it."""
    clocked.begin()
    clocked.play(twist(AHEAD), 150)
    clocked.room.home()
    clocked.play(None, 5)
    clocked.play(twist(), 100)
    before = clocked.room.state.pose.position_m
    clocked.play(None, 100)

    assert np.linalg.norm(clocked.room.state.pose.position_m - before) < 2e-3


def test_a_seed_is_the_environments_own(clocked: Any) -> None:
    """Cubes lie and the instruction reads as in JacoEnv with that seed."""
    env = JacoEnv("pick", cameras=())
    observed, info = env.reset(seed=1234)
    told = clocked.room.reset(1234, {})
    expert = clocked.room.expert()
    env_state = env.state()
    env.close()

    assert told["instruction"] == observed["instruction"]
    assert told["colour"] == info["colour"]
    assert np.allclose(expert["action"], env.expert(), atol=1e-9)
    assert np.allclose(expert["tool_m"], env_state.tool_pos, atol=1e-9)


def test_an_episodes_time_begins_with_motion(clocked: Any, twist: MakeTwist) -> None:
    """Rest before the first motion is no part of it; then there is a judgement each control period."""
    clocked.begin()
    clocked.play(twist(), 100)
    assert clocked.room.verdict()["steps"] == 0

    clocked.play(twist((0, 0, 0.01)), 100)
    assert clocked.room.verdict()["steps"] == pytest.approx(10, abs=1)


def test_the_expert_picks_a_cube_through_the_streamers_decisions(clocked: Any, settings: Any) -> None:
    """At 100 Hz under the ceilings' acceleration and a report each 0.1 s, a pick still succeeds in half its time."""
    clocked.begin(1000)

    state = drive(clocked, settings, lambda _: clocked.room.expert()["action"], 60)

    assert state is State.RUNNING
    assert clocked.room.verdict()["success"]
    assert clocked.room.verdict()["done"]


def test_a_pick_of_another_cube_is_no_success(clocked: Any, settings: Any) -> None:
    """The verdict names the wrong object, and the episode is over."""
    told = clocked.begin(1000)
    colour = told["instruction"].split()[3]
    other = next(each for each in ("red", "green", "blue") if each != colour)
    env = clocked.room._env
    clocked.begin(1000)
    from stillframe_client.sim.experts import expert_action

    drive(clocked, settings, lambda _: expert_action(env.state(), "pick", other), 80)

    assert clocked.room.verdict()["wrong_object"]
    assert not clocked.room.verdict()["success"]


@pytest.mark.parametrize("task", ["remember", "dance"])
def test_a_task_that_is_not_played_is_refused(clocked: Any, task: str) -> None:
    """What a lamp shows passes before a bridge has armed: remember is not played here; the error names what is."""
    with pytest.raises(ValueError, match="reach, pick, push"):
        clocked.room.reset(0, {"task": task})
    with pytest.raises(ValueError, match="reach, pick, push"):
        Room(0.0, task=task)


def test_a_late_call_plays_every_point(clocked: Any, twist: MakeTwist) -> None:
    """A world that was away plays what was due meanwhile, in order, and is on time again."""
    clocked.begin()
    before = clocked.room.state.pose.position_m
    for _ in range(50):
        clocked.room.command(twist(AHEAD))
    clocked.now_s += 50 * TICK_S
    clocked.room.advance(clocked.now_s)
    clocked.play(None, 100)

    assert clocked.room.state.pose.position_m[1] - before[1] == pytest.approx(-0.05, abs=0.004)
