from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from stillframe_client.sim import COLOURS, Goal, JacoEnv
from stillframe_lab.train.chunked.labels import BRANCHES, ChunkCollection, expert_chunk
from stillframe_lab.train.demonstrations import NOISY_EXPERT, Collection
from stillframe_lab.train.new_checkpoint import action_scale
from stillframe_lab.train.recipe import INSTRUCTIONS

HORIZON = 5
WANTED = ChunkCollection(10, (1, 1, 0), NOISY_EXPERT, ("front", "wrist"), HORIZON)


@pytest.fixture(scope="module")
def env() -> Iterator[JacoEnv]:
    """A scene that is never drawn."""
    env = JacoEnv("pick", cameras=())
    yield env
    env.close()


def test_a_chunk_is_what_the_expert_goes_on_to_do(env: JacoEnv) -> None:
    """For the episode's own goal: the very actions that the expert takes when it drives, from near a cube too."""
    env.reset(seed=3, options={"colour": "green"})
    env.teleport(np.random.default_rng(1), near="green")
    chunk = expert_chunk(env, env.goal, HORIZON)
    driven = []
    for _ in range(HORIZON):
        driven.append(env.expert())
        env.step(driven[-1])

    assert_array_equal(chunk, driven)
    assert np.ptp(chunk[:, :3], axis=0).max() > 1e-4


def test_labelling_leaves_the_scene_as_it_is(env: JacoEnv) -> None:
    """The arm is where it was, and so is every cube."""
    env.reset(seed=4)
    before = env.world.data.qpos.copy()
    WANTED.label(env, action_scale(), np.random.default_rng(0))

    assert_array_equal(env.world.data.qpos, before)


@pytest.mark.parametrize("task", ["reach", "pick"])
def test_a_frame_is_labelled_for_its_own_goal_a_pick_and_a_reach(env: JacoEnv, task: str) -> None:
    """Three instructions, the episode's first; chunks are normalised, the gripper is 0 or 1, the state in metres."""
    observed, _ = env.reset(seed=6, options={"task": task, "colour": "blue"})
    labels = WANTED.label(env, action_scale(), np.random.default_rng(0))
    goals = [INSTRUCTIONS[index] for index in labels.goals[0]]
    own = expert_chunk(env, goals[0], HORIZON)

    assert goals[0] == Goal(task, "blue")
    assert [goal.task for goal in goals[1:]] == ["pick", "reach"]
    assert labels.chunks.shape == (1, BRANCHES, HORIZON, 7)
    assert_allclose(action_scale().unnormalise(labels.chunks[0, 0].astype(np.float64)), own, rtol=0, atol=1e-7)
    assert np.abs(labels.chunks).max() <= 1
    assert_array_equal(labels.state[0], observed["state"])


def test_other_instructions_are_drawn_from_all_cubes(env: JacoEnv) -> None:
    """No colour is left out beside the episode's own."""
    env.reset(seed=6)
    rng = np.random.default_rng(0)
    drawn = [WANTED.label(env, action_scale(), rng).goals[0, 1:] for _ in range(20)]
    colours = {(at, INSTRUCTIONS[index].colour) for goals in drawn for at, index in enumerate(goals)}

    assert colours == {(at, colour) for at in range(2) for colour in COLOURS}


def test_frames_with_chunks_are_kept_apart() -> None:
    """Neither folder nor origin is that of the same frames without, or with chunks of another length."""
    plain = Collection(WANTED.frames, WANTED.seed, WANTED.mixture, WANTED.cameras)
    longer = ChunkCollection(WANTED.frames, WANTED.seed, WANTED.mixture, WANTED.cameras, HORIZON + 1)

    assert (plain.variant, WANTED.variant, longer.variant) == (("wrist",), ("wrist", "5"), ("wrist", "6"))
    assert len({plain.origin, WANTED.origin, longer.origin}) == 3
