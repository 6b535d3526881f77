from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
import pytest
from numpy.typing import NDArray

from stillframe_client.sim import COLOURS, JacoEnv, SensorNoise, expert_action
from stillframe_client.sim.proprioception import STATE_NAMES, STATE_UNITS

STILL = np.array([0, 0, 0, 0, 0, 0, 1.0])


def test_the_same_seed_and_actions_give_the_same_pictures(seeing: JacoEnv) -> None:
    """Bit for bit, in a used environment as in a fresh one."""
    seeing.reset(seed=99)
    used = _pictures(seeing)
    fresh = JacoEnv("pick", cameras=("front", "wrist"))
    try:
        anew = _pictures(fresh)
    finally:
        fresh.close()

    assert len(used) == 2 * 9
    assert all(np.array_equal(one, other) for one, other in zip(used, anew, strict=True))


def test_a_world_comes_back_to_a_snapshot_to_the_bit(blind: JacoEnv) -> None:
    """What is played between snapshot and restore leaves no trace: not in poses, speeds, commands or contacts."""
    played = []
    for stray in (0, 6):
        blind.reset(seed=5)
        states = []
        for _ in range(12):
            now = blind.world.snapshot()
            for step in range(stray):
                blind.world.act(np.array([0.02, 0.01, -0.02, 0, 0.1, 0, step % 2]))
            blind.world.restore(now)
            blind.world.act(blind.expert())
            here = blind.state()
            states.append([*blind.world.data.qpos, *blind.world.data.qvel, *here.laser_pos, here.finger_command])
        played.append(np.array(states))

    assert np.array_equal(*played)
    assert np.ptp(played[0], axis=0).max() > 0.01


def test_another_seed_gives_another_scene(blind: JacoEnv) -> None:
    """Cubes do not lie where they lay, and keep their distance."""
    layouts = []
    for seed in range(20):
        blind.reset(seed=seed)
        layouts.append(np.stack([blind.state().cube_pos[colour] for colour in COLOURS]))
    gaps = [np.linalg.norm(layout[i] - layout[j]) for layout in layouts for i, j in ((0, 1), (0, 2), (1, 2))]

    assert len({layout.tobytes() for layout in layouts}) == 20
    assert min(gaps) > 0.12


def test_options_change_the_goal_and_not_the_scene(blind: JacoEnv) -> None:
    """One seed is one table, whatever is asked for."""
    blind.reset(seed=7)
    before = blind.state().cube_pos
    observed, info = blind.reset(seed=7, options={"task": "push", "colour": "green", "direction": "left"})

    assert observed["instruction"] == "push the green cube to the left"
    assert (info["task"], info["colour"], info["steps"], info["success"]) == ("push", "green", 0, False)
    assert all(np.array_equal(blind.state().cube_pos[colour], before[colour]) for colour in COLOURS)


def test_the_seed_draws_every_colour(blind: JacoEnv) -> None:
    """Without an option the colour comes from the seed, and all of them come up."""
    drawn = [str(blind.reset(seed=seed)[1]["colour"]) for seed in range(30)]

    assert set(drawn) == set(COLOURS)
    assert drawn == [str(blind.reset(seed=seed)[1]["colour"]) for seed in range(30)]


@pytest.mark.parametrize(
    ("action", "complaint"),
    [
        (np.zeros(6), r"shape \(6,\); expected \(7,\)"),
        (np.zeros((1, 7)), r"shape \(1, 7\)"),
        (np.array([0, math.nan, 0, 0, 0, 0, 1]), "holds nan"),
        (np.array([0, 0, 0, 0, 0, 0, math.inf]), "holds inf"),
    ],
)
def test_a_bad_action_is_refused(blind: JacoEnv, action: NDArray[np.float64], complaint: str) -> None:
    """The error says what was wrong, and the episode goes on as if nothing was sent."""
    blind.reset(seed=0)

    with pytest.raises(ValueError, match=complaint):
        blind.step(action)
    assert blind.step(STILL)[4]["steps"] == 1


def test_speed_is_clipped(blind: JacoEnv) -> None:
    """Asking for ten times the limit is the same as asking for the limit."""
    tools = []
    for factor in (1, 10):
        blind.reset(seed=0)
        for _ in range(3):
            blind.step(np.array([0.02 * factor, -0.02 * factor, 0, 0, 0, 0.1 * factor, 1]))
        tools.append((blind.state().tool_pos, blind.state().tool_turn))

    assert np.array_equal(tools[0][0], tools[1][0])
    assert np.array_equal(tools[0][1], tools[1][1])


@pytest.mark.parametrize("axis", range(6))
def test_actions_move_the_tool_along_the_world_axes(blind: JacoEnv, axis: int) -> None:
    """Metres and radians per step, in the world frame, each number on its own axis and with its own sign."""
    blind.reset(seed=0)
    start = blind.state()
    asked = 0.01 if axis < 3 else 0.05
    for _ in range(6):
        blind.step(np.eye(7)[axis] * asked + STILL)
    for _ in range(8):
        blind.step(STILL)
    end = blind.state()
    moved = np.concatenate([end.tool_pos - start.tool_pos, end.tool_turn - start.tool_turn])

    assert moved[axis] == pytest.approx(6 * asked, rel=0.1)
    assert np.abs(np.delete(moved, axis)).max() < 0.15 * 6 * asked


def test_the_gripper_number_opens_at_one(blind: JacoEnv) -> None:
    """OpenVLA's data sets: 0 closes, 1 opens, the threshold lies at a half."""
    angles = []
    for gripper in (0.0, 0.51, 0.49):
        blind.reset(seed=0)
        for _ in range(10):
            blind.step(np.array([0, 0, 0, 0, 0, 0, gripper]))
        angles.append(blind.state().finger_angle)

    assert angles[0] > 1.2
    assert angles[1] < 0.3
    assert angles[2] == angles[0]


@pytest.mark.parametrize("hz", [5, 20])
def test_a_second_is_a_second_at_any_rate(hz: int) -> None:
    """The same metres per second, sent at another rate, bring the tool to the same place."""
    env = JacoEnv("reach", hz=hz, cameras=())
    env.reset(seed=0)
    start = env.state().tool_pos
    for step in range(3 * hz):
        env.step(np.array([0, 0.1 / hz if step < hz else 0, 0, 0, 0, 0, 1]))

    assert env.state().tool_pos - start == pytest.approx([0, 0.1, 0], abs=0.004)
    assert env.max_steps == 6 * hz


def test_an_episode_is_cut_off_and_then_refuses_steps() -> None:
    """After max_steps truncated is set, terminated is not, and only reset helps."""
    env = JacoEnv("pick", cameras=(), max_steps=2)
    env.reset(seed=0)
    ends = [env.step(STILL)[2:4] for _ in range(2)]

    assert ends == [(False, False), (False, True)]
    with pytest.raises(RuntimeError, match="reset"):
        env.step(STILL)


def test_success_ends_the_episode_with_a_reward(blind: JacoEnv) -> None:
    """The last step of an expert's episode is worth 1, all others nothing."""
    blind.reset(seed=5)
    rewards, terminated, info = [], False, {}
    while not terminated:
        _, reward, terminated, _, info = blind.step(blind.expert())
        rewards.append(reward)

    assert rewards == [0.0] * (len(rewards) - 1) + [1.0]
    assert (info["success"], info["wrong_object"], info["steps"]) == (True, False, len(rewards))
    assert info["touched"] == info["colour"]


def test_lifting_another_cube_is_noticed(blind: JacoEnv) -> None:
    """An expert that was told the wrong colour ends the episode without a reward."""
    blind.reset(seed=6, options={"task": "pick", "colour": "red"})
    terminated, reward, info = False, 1.0, {}
    while not terminated:
        _, reward, terminated, _, info = blind.step(expert_action(blind.state(), "pick", "blue"))

    assert (info["wrong_object"], info["success"], reward) == (True, False, 0.0)


def test_noise_reaches_the_policy_and_not_the_renderer(noisy: JacoEnv) -> None:
    """Observations are spoilt from the seed's own stream; render() stays clean."""
    first = noisy.reset(seed=1)[0]["images"]["front"]
    again = noisy.reset(seed=1)[0]["images"]["front"]
    clean = noisy.render("front")

    assert np.array_equal(first, again)
    assert 1.0 < np.std(first.astype(float) - clean) < 3.0
    assert np.array_equal(clean, noisy.render("front"))


@pytest.mark.parametrize(
    ("wrong", "complaint"),
    [
        ({"task": "juggle"}, "unknown task 'juggle'"),
        ({"hz": 30}, "hz is 30; expected one of 5, 10, 20"),
        ({"cameras": ("front", "roof")}, "unknown camera 'roof'"),
        ({"max_steps": 0}, "at least"),
    ],
)
def test_an_impossible_environment_is_refused(wrong: dict[str, object], complaint: str) -> None:
    """The error names the setting and what would do."""
    with pytest.raises(ValueError, match=complaint):
        JacoEnv(**wrong)  # type: ignore[arg-type] # wrong on purpose


def test_an_unknown_option_is_refused(blind: JacoEnv) -> None:
    """A misspelt option must not silently draw another goal."""
    with pytest.raises(ValueError, match="unknown option 'color'"):
        blind.reset(seed=0, options={"color": "red"})


def test_looking_before_the_first_reset_says_so() -> None:
    """No episode, no instruction."""
    with pytest.raises(RuntimeError, match="reset"):
        JacoEnv(cameras=()).observe()


@pytest.fixture
def noisy(needs_gl: None) -> Iterator[JacoEnv]:  # noqa: ARG001 -- for its skip
    """An environment with a bad camera."""
    env = JacoEnv("reach", noise=SensorNoise(sigma=2.0))
    yield env
    env.close()


def _pictures(env: JacoEnv) -> list[NDArray[np.uint8]]:
    """Front and wrist pictures of one short episode with seed 11."""
    seen = [*env.reset(seed=11)[0]["images"].values()]
    rng = np.random.default_rng(5)
    for _ in range(8):
        seen += env.step(np.array([*rng.uniform(-0.02, 0.02, 3), *rng.uniform(-0.1, 0.1, 3), 0]))[0]["images"].values()
    return seen


def test_the_state_is_what_the_arm_knows_of_itself(blind: JacoEnv) -> None:
    """Named numbers in float64: tool, turn from home, opening; reading it leaves the world as it was."""
    observed, _ = blind.reset(seed=3)
    home = observed["state"]
    for _ in range(4):
        observed, *_ = blind.step(np.array([0.01, -0.005, -0.01, 0.0, 0.0, 0.05, 0.0]))
    state, truth, before = observed["state"], blind.state(), blind.world.data.qpos.copy()

    assert len(STATE_NAMES) == len(STATE_UNITS) == 7
    assert (state.shape, state.dtype) == ((7,), np.float64)
    assert np.abs(home[3:6]).max() < 1e-3
    assert home[6] == pytest.approx(1.0, abs=0.02)
    assert np.array_equal(state[:3], truth.tool_pos)
    assert np.array_equal(state[3:6], truth.tool_turn)
    assert state[5] == pytest.approx(0.2, abs=0.1)  # it turned as it was told
    assert state[6] == pytest.approx(1.25 - truth.finger_angle)
    assert 0 <= state[6] < home[6]
    assert np.array_equal(blind.observe()["state"], state)
    assert np.array_equal(blind.world.data.qpos, before)
    assert blind.reset(seed=3)[0]["state"].tolist() == home.tolist()
