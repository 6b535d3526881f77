from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray

from stillframe_client.sim import COLOURS, TASKS, JacoEnv, SceneState, expert_action
from stillframe_client.sim.state import MAX_SPEED_M_S, MAX_TURN_RAD_S

SPEED = np.array([MAX_SPEED_M_S] * 3 + [MAX_TURN_RAD_S] * 3)


def play(env: JacoEnv, task: str, seed: int, rng: np.random.Generator, noise: float = 0.0) -> bool:
    """Let the expert play one episode; a share of its actions is replaced by anything at all."""
    env.reset(seed=seed, options={"task": task})
    while True:
        action = env.expert()
        if rng.random() < noise:
            action = np.array([*rng.uniform(-1, 1, 6) * SPEED / env.state().hz, rng.integers(0, 2)])
        _, _, terminated, truncated, info = env.step(action)
        if terminated or truncated:
            return bool(info["success"])


@pytest.mark.parametrize("seeds", [range(4), pytest.param(range(4, 10), marks=pytest.mark.slow)])
@pytest.mark.parametrize("task", TASKS)
def test_the_expert_succeeds(blind: JacoEnv, task: str, seeds: range) -> None:
    """In every scene."""
    won = [seed for seed in seeds if play(blind, task, seed, np.random.default_rng(seed))]

    assert won == list(seeds)


@pytest.mark.slow
@pytest.mark.parametrize("task", TASKS)
def test_the_expert_hardly_ever_fails(blind: JacoEnv, task: str) -> None:
    """At least 98 of 100 scenes of each task: what imitates it can be no better than its teacher."""
    won = sum(play(blind, task, seed, np.random.default_rng(seed)) for seed in range(1000, 1100))

    assert won >= 98  # measured: 100 of each


@pytest.mark.parametrize("seeds", [range(2), pytest.param(range(2, 5), marks=pytest.mark.slow)])
@pytest.mark.parametrize("hz", [5, 20])
def test_the_expert_succeeds_at_other_rates(hz: int, seeds: range) -> None:
    """The law is written in seconds, so slower and faster loops pick too."""
    env = JacoEnv("pick", hz=hz, cameras=())
    won = [seed for seed in seeds if play(env, "pick", seed, np.random.default_rng(seed))]

    assert won == list(seeds)


@pytest.mark.parametrize(("episodes", "least"), [(6, 6), pytest.param(20, 19, marks=pytest.mark.slow)])
@pytest.mark.parametrize("task", ["reach", "pick"])
def test_the_expert_recovers(blind: JacoEnv, task: str, episodes: int, least: int) -> None:
    """With 30 % of its actions replaced by noise, gripper included, it still finishes at least 19 of 20."""
    won = sum(play(blind, task, seed, np.random.default_rng(seed), noise=0.3) for seed in range(episodes))

    assert won >= least


def test_the_expert_is_a_function_of_the_state(blind: JacoEnv) -> None:
    """Asked twice, or about another goal in between, it says the same; nothing is remembered."""
    blind.reset(seed=1)
    state = blind.state()
    first = expert_action(state, "pick", "red")
    for colour in COLOURS:
        expert_action(state, "reach", colour)

    assert np.array_equal(expert_action(state, "pick", "red"), first)


def test_labels_stay_below_full_speed(blind: JacoEnv) -> None:
    """No label is clipped by the environment, for any goal, anywhere the arm may be."""
    rng = np.random.default_rng(0)
    blind.reset(seed=2)
    for _ in range(20):
        blind.teleport(rng)
        for action in _all_labels(blind.state()):
            assert np.all(np.abs(action[:6]) <= 0.9 * SPEED / 10 + 1e-12)


def test_lifting_keeps_centring(blind: JacoEnv) -> None:
    """While it lifts, dx, dy and the turn still answer to the state: a constant would become a password."""
    held = _grasp(blind)
    lifts = [expert_action(replace(held, tool_pos=held.tool_pos + shift), "pick", "red") for shift in _nudges()]

    assert all(action[2] > 0 and action[6] == 0 for action in lifts)
    assert len({tuple(action[:2]) for action in lifts}) == len(lifts)
    assert np.all(expert_action(replace(held, tool_turn=np.full(3, 0.02)), "pick", "red")[3:6] < 0)


@pytest.mark.parametrize("command", [0.25, 0.8, 1.25])
def test_a_wrong_command_does_not_let_go(blind: JacoEnv, command: float) -> None:
    """The grip is judged by what can be seen: with the fingers on the cube, the label is to close and lift."""
    held = replace(_grasp(blind), finger_command=command)

    assert expert_action(held, "pick", "red")[6] == 0


def test_the_wrong_cube_is_let_go(blind: JacoEnv) -> None:
    """With red in the hand, the label for green is to open and rise, not to drag red along."""
    action = expert_action(_grasp(blind), "pick", "green")

    assert action[6] == 1
    assert action[2] > 0


def test_a_fist_opens_before_it_descends(blind: JacoEnv) -> None:
    """Closed on nothing just above the cube: open and rise; once open: go down."""
    blind.reset(seed=3)
    state = blind.state()
    above = state.cube_pos["red"] + np.array([0, 0, 0.08])
    fist = expert_action(replace(state, tool_pos=above, finger_angle=1.25), "pick", "red")
    hand = expert_action(replace(state, tool_pos=above), "pick", "red")

    assert (fist[6], fist[2] > 0) == (1, True)
    assert (hand[6], hand[2] < 0) == (1, True)


def _all_labels(state: SceneState) -> list[NDArray[np.float64]]:
    labels = [expert_action(state, task, colour) for task in ("reach", "pick") for colour in COLOURS]
    return labels + [expert_action(state, "push", colour, side) for colour in COLOURS for side in ("left", "right")]


def _grasp(env: JacoEnv) -> SceneState:
    """The state with red held between the fingers."""
    env.reset(seed=4)
    env.teleport(np.random.default_rng(0), holding="red")
    state = env.state()
    assert 0.8 < state.finger_angle < 1.15, "the fingers should have closed on the cube"
    return state


def _nudges() -> list[NDArray[np.float64]]:
    return [np.array([0.001 * i, -0.002 * i, 0.0]) for i in range(4)]
