from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from stillframe_client.sim.kitchen import TASKS, KitchenEnv
from stillframe_client.sim.kitchen.layout import APART_M, OFF_STAIN_M
from stillframe_client.sim.kitchen.state import SPONGE
from stillframe_client.sim.rollout import play
from stillframe_client.sim.state import FINGER_CLOSED_RAD

Kitchen = Callable[[str], KitchenEnv]
STILL = np.array([0, 0, 0, 0, 0, 0, 1.0])


@pytest.mark.parametrize("task", TASKS)
def test_things_lie_where_they_are_put(kitchen: Kitchen, task: str) -> None:
    """Untouched for a second nothing moves by a millimetre, and nothing is done."""
    env = kitchen(task)
    env.reset(seed=3)
    before = env.state().pos
    for _ in range(10):
        _, _, terminated, truncated, info = env.step(STILL)
    after = env.state().pos

    assert (terminated, truncated, info["success"], info["touched"]) == (False, False, False, None)
    assert all(np.linalg.norm(after[thing] - before[thing]) < 1e-3 for thing in before)


@pytest.mark.parametrize("task", TASKS)
def test_a_seed_draws_one_table(kitchen: Kitchen, task: str) -> None:
    """The same twice, another from another seed; things are as far apart as an open hand needs."""
    env, drawn = kitchen(task), []
    for seed in (1, 1, 2):
        env.reset(seed=seed)
        state = env.state()
        drawn.append(np.concatenate([*state.pos.values(), state.stain.ravel()]))
        flat = [place[:2] for place in state.pos.values()]
        assert len(flat) == 1 or np.linalg.norm(flat[0] - flat[1]) > APART_M
        assert all(np.linalg.norm(cell[:2] - state.pos[SPONGE][:2]) > OFF_STAIN_M for cell in state.stain)

    assert np.array_equal(drawn[0], drawn[1])
    assert not np.allclose(drawn[0], drawn[2])


@pytest.mark.parametrize("task", TASKS)
def test_the_expert_succeeds(kitchen: Kitchen, task: str) -> None:
    """One scene; its labels are below full speed."""
    env = kitchen(task)
    asked: list[np.ndarray] = []

    def act(_: object) -> np.ndarray:
        asked.append(env.expert())
        return asked[-1]

    assert play(env, act, seed=11).success
    assert np.abs(np.array(asked)[:, :3]).max() < 0.9 * 0.02 + 1e-12


@pytest.mark.slow
@pytest.mark.parametrize("task", TASKS)
def test_the_expert_hardly_ever_fails(kitchen: Kitchen, task: str) -> None:
    """At least 98 of 100 scenes of each task."""
    env = kitchen(task)

    assert sum(play(env, lambda _: env.expert(), seed=seed).success for seed in range(1000, 1100)) >= 98


@pytest.mark.slow
@pytest.mark.parametrize("task", TASKS)
def test_the_expert_recovers(kitchen: Kitchen, task: str) -> None:
    """With a tenth of its actions replaced by noise, gripper included, it still finishes at least 18 of 20."""
    env, rng = kitchen(task), np.random.default_rng(0)

    def act(_: object) -> np.ndarray:
        if rng.random() < 0.1:
            return np.array([*rng.uniform(-1, 1, 3) * 0.02, *rng.uniform(-1, 1, 3) * 0.1, rng.integers(0, 2)])
        return env.expert()

    assert sum(play(env, act, seed=seed).success for seed in range(20)) >= 18


def test_a_snapshot_holds_what_is_wiped(kitchen: Kitchen) -> None:
    """Wiped after it was taken is not wiped once it is restored, and what follows is as it was, to the bit."""
    env = kitchen("wipe-table")
    env.reset(seed=5)
    while not any(env.state().wiped):
        env.step(env.expert())
    taken, follows = env.world.snapshot(), []
    for _ in range(2):
        for _ in range(5):
            env.world.act(env.expert())
        state = env.state()
        follows.append((state.wiped, state.pos[SPONGE].tobytes()))
        env.world.restore(taken)

    assert follows[0] == follows[1]
    assert sum(follows[0][0]) > sum(env.state().wiped) > 0


def test_another_world_is_not_restored(kitchen: Kitchen) -> None:
    """What has no stain is no kitchen's."""
    env = kitchen("wipe-table")
    env.reset(seed=5)
    plain = super(type(env.world), env.world).snapshot()

    with pytest.raises(TypeError, match="expected a snapshot that this world has taken"):
        env.world.restore(plain)


@pytest.mark.parametrize("task", TASKS)
def test_the_arm_can_begin_with_the_thing_in_its_hand(kitchen: Kitchen, task: str) -> None:
    """Grasped: the fingers are neither open nor closed on nothing; the expert goes on from there."""
    env = kitchen(task)
    env.reset(seed=2)
    env.teleport(np.random.default_rng(1), holding=TASKS[task].moved)
    state = env.state()

    assert 0.7 < state.finger_angle < FINGER_CLOSED_RAD - 0.03
    assert np.linalg.norm(state.tool_pos - state.grasp(TASKS[task].moved)) < 0.03
    assert env.expert()[6] == 0


def test_options_of_other_scenes_are_refused(kitchen: Kitchen) -> None:
    """No colour, and no other task."""
    with pytest.raises(ValueError, match="unknown option 'colour'; expected task"):
        kitchen("pick-pot").reset(seed=0, options={"colour": "red"})
    with pytest.raises(ValueError, match="this scene is laid for pick-pot"):
        kitchen("pick-pot").reset(seed=0, options={"task": "place-cube"})


def test_the_stain_and_the_crates_are_seen(needs_gl: None) -> None:  # noqa: ARG001 -- for its skip
    """A cell's colour is in the picture where the cell is; crates that go by change a strip above the table alone."""
    env, moving = (KitchenEnv("wipe-table", masks=True, distractor=moves) for moves in (False, True))
    seen, crates = (one.reset(seed=4)[0] for one in (env, moving))
    u, v = env.project("front", env.state().stain[:1])[0].astype(int)
    picture = seen["images"]["front"].astype(int)
    changed = np.flatnonzero((picture != crates["images"]["front"]).any(axis=(1, 2)))
    for one in (env, moving):
        one.close()

    assert picture[v, u, 1] < picture[v, u, [0, 2]].min() - 15
    assert 0 < changed.max() < 60
    assert seen["masks"]["front"].any()
    assert seen["instruction"] == "wipe the table"
