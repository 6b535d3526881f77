from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from stillframe_client.sim import COLOURS, JacoEnv, SceneState, SensorNoise
from stillframe_client.sim.distractor import CRATE_RGB, CRATES, SPACING_M, Crates
from stillframe_client.sim.sensors import Picture
from stillframe_client.sim.shapes import Shape
from stillframe_client.sim.tasks import Goal

TABLE_END_X_M = -0.2  # the far edge: 0.35 m less half of 1.1 m
TABLE_TOP_ROWS = 28  # the picture's first two rows of patches; the table begins below them
STEP_S = 0.1
Numbers = NDArray[np.float64]


@pytest.fixture(scope="module")
def busy(needs_gl: None) -> Iterator[JacoEnv]:  # noqa: ARG001 -- for its skip
    """An environment with crates in the background, its sensor not perfect."""
    env = JacoEnv("pick", cameras=("front",), noise=SensorNoise(sigma=2.0), distractor=True)
    yield env
    env.close()


@pytest.fixture(scope="module")
def quiet(needs_gl: None) -> Iterator[JacoEnv]:  # noqa: ARG001 -- for its skip
    """The same without them."""
    env = JacoEnv("pick", cameras=("front",), noise=SensorNoise(sigma=2.0))
    yield env
    env.close()


@dataclass(frozen=True)
class Twice:
    """An episode with crates and the same without them, picture by picture and state by state."""

    pictures: list[tuple[Picture, Picture]]
    states: list[tuple[Numbers, Numbers]]
    goals: tuple[Goal, Goal]


@pytest.fixture(scope="module")
def unseen(needs_gl: None) -> Iterator[list[JacoEnv]]:  # noqa: ARG001 -- for its skip
    """An environment with crates and one without, drawn where a test looks only."""
    envs = [JacoEnv("pick", cameras=(), distractor=distractor) for distractor in (True, False)]
    yield envs
    for env in envs:
        env.close()


@pytest.fixture(scope="module", params=range(3))
def twice(request: pytest.FixtureRequest, unseen: list[JacoEnv]) -> Twice:
    """The first steps of three seeds."""
    seen, goals = [], []
    for env in unseen:
        looks = driven(env, request.param, lambda env=env: (env.render("front"), numbers(env.state())))
        seen.append([*zip(*looks, strict=True)])
        goals.append(env.goal)
    pictures, states = ([*zip(*each, strict=True)] for each in zip(*seen, strict=True))
    return Twice(pictures, states, (goals[0], goals[1]))


def drawn(seed: int) -> Crates:
    """The procession of a seed."""
    return Crates.drawn(np.random.default_rng(seed))


def centres_px(env: JacoEnv, crates: Crates, time_s: float) -> Numbers:
    """Where the middle of each crate's front is in the front camera's picture, [crates] pixels to the right."""
    bodies = [box for box in crates.boxes(time_s) if box.rgb == CRATE_RGB]
    return env.project("front", np.stack([box.pos_m + box.half_m * [1, 0, 0] for box in bodies]))[:, 0]


def driven(env: JacoEnv, seed: int, look: Callable[[], Any], steps: int = 12) -> list[Any]:
    """What `look` returns after the reset and after each of the expert's steps."""
    env.reset(seed=seed)
    seen = [look()]
    for _ in range(steps):
        env.step(env.expert())
        seen.append(look())
    return seen


def numbers(state: SceneState) -> Numbers:
    """A state's positions and angles in one row."""
    cubes = [state.cube_pos[colour] for colour in COLOURS]
    return np.concatenate([state.tool_pos, state.tool_turn, state.laser_pos, [state.finger_angle], *cubes])


def test_only_the_background_shows_them(twice: Twice, quiet: JacoEnv) -> None:
    """They take 5 to 10 % of the front picture in every step, all of it beyond the table, where no cube can lie."""
    differing = np.stack([(one != other).any(-1) for one, other in twice.pictures])  # [pictures, 224, 224]
    nearest_row = min(quiet.project("front", np.array([[0.28, y, 0.05]]))[0, 1] for y in (-0.24, 0, 0.24))

    assert differing.mean((1, 2)).min() > 0.05
    assert differing.mean((1, 2)).max() < 0.10
    assert not differing[:, TABLE_TOP_ROWS:].any()
    assert nearest_row > TABLE_TOP_ROWS + 14


@pytest.mark.parametrize("seed", range(20))
def test_they_move_by_some_pixels_in_every_step(blind: JacoEnv, seed: int) -> None:
    """Four to eight pixels a step at 10 Hz, all to one side; whoever comes round again does so out of the picture."""
    crates = drawn(seed)
    path = np.stack([centres_px(blind, crates, step * STEP_S) for step in range(121)])
    moves = np.diff(path, axis=0)
    rounds = np.abs(moves) > 100
    half_px = np.ptp(blind.project("front", np.array([[-0.4, 0, 0.1], [-0.4, 0.17, 0.1]]))[:, 0])

    assert np.abs(moves[~rounds]).min() > 4
    assert np.abs(moves[~rounds]).max() < 8
    assert len(np.unique(np.sign(moves[~rounds]))) == 1
    assert rounds.any()
    assert np.abs(np.concatenate([path[:-1][rounds], path[1:][rounds]]) - 112).min() > 112 + half_px


def test_the_seed_draws_their_path(busy: JacoEnv) -> None:
    """The same seed gives the same pictures, another one another procession, and both directions come up."""
    first, again = (driven(busy, 5, lambda: busy.observe()["images"]["front"], steps=3) for _ in range(2))
    processions = [drawn(seed) for seed in range(20)]

    assert all(np.array_equal(one, other) for one, other in zip(first, again, strict=True))
    assert len({crates.start_m for crates in processions}) == 20
    assert {np.sign(crates.speed_m_s) for crates in processions} == {-1.0, 1.0}


def test_nothing_else_changes(twice: Twice) -> None:
    """Cubes, goal and arm are to the bit those of the same seed without crates, whatever is done."""
    ours, theirs = zip(*twice.states, strict=True)
    goal, other = twice.goals

    assert goal == other
    assert np.array_equal(ours, theirs)


def test_the_sensors_noise_stays(busy: JacoEnv, quiet: JacoEnv) -> None:
    """Where no crate is, the noisy picture is the same to the bit."""
    ours, theirs = (env.reset(seed=6)[0]["images"]["front"][TABLE_TOP_ROWS:] for env in (busy, quiet))

    assert not np.array_equal(ours, busy.render("front")[TABLE_TOP_ROWS:])
    assert np.array_equal(ours, theirs)


def test_they_keep_off_the_table() -> None:
    """No part of any crate comes within 10 cm of the table, so that nothing on it is touched or hidden."""
    boxes: list[Shape] = [box for seed in range(20) for time_s in (0, 0.7, 9.3) for box in drawn(seed).boxes(time_s)]

    assert max(box.pos_m[0] + box.half_m[0] for box in boxes) < TABLE_END_X_M - 0.10
    assert max(abs(box.pos_m[1]) for box in boxes) < CRATES * SPACING_M


def test_there_are_none_unless_asked_for(quiet: JacoEnv) -> None:
    """Without `distractor` nothing goes by: after a step of a still arm, the background beside it is as it was."""
    quiet.reset(seed=8)
    before = quiet.render("front")
    quiet.step(np.array([0, 0, 0, 0, 0, 0, 1.0]))
    background = (before != quiet.render("front"))[:TABLE_TOP_ROWS]

    assert background[:, :60].sum() == 0
    assert background[:, -60:].sum() == 0
