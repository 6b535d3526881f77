from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from stillframe.errors import ConfigError
from stillframe.models.actions import Statistics
from stillframe_client.sim import COLOURS, JacoEnv, expert_action
from stillframe_lab.train.demonstrations import NOISY_EXPERT, Collection, Mixture, NoisyExpert, collect, label
from stillframe_lab.train.frame_store import FrameStore
from stillframe_lab.train.new_checkpoint import action_statistics
from stillframe_lab.train.recipe import INSTRUCTIONS

SCALE = Statistics(action_statistics()).scales["jaco_sim"]


@pytest.fixture(scope="module")
def env() -> Iterator[JacoEnv]:
    """A scene that is never drawn."""
    env = JacoEnv("pick", cameras=())
    yield env
    env.close()


def test_a_frame_is_labelled_for_all_six_instructions(env: JacoEnv) -> None:
    """One action an instruction: the expert's for that goal, normalised and within reach."""
    env.reset(seed=3)
    labels = label(env, SCALE)
    experts = [expert_action(env.state(), each.task, each.colour) for each in INSTRUCTIONS]

    assert labels.actions.shape == (1, len(INSTRUCTIONS), 7)
    assert_allclose(SCALE.unnormalise(labels.actions[0].astype(np.float64)), experts, rtol=0, atol=1e-7)
    assert np.abs(labels.actions).max() <= 1


def test_no_two_instructions_want_the_same_everywhere(env: JacoEnv) -> None:
    """Far away reaching and picking look alike; near the cubes all six instructions part."""
    env.reset(seed=3)
    rng = np.random.default_rng(0)
    wanted = []
    for colour in COLOURS:
        env.teleport(rng, near=colour)
        wanted.append(label(env, SCALE).actions[0])
    everywhere = np.concatenate(wanted, axis=1)  # [instructions, 3 * 7]

    for one, other in itertools.combinations(everywhere, 2):
        assert np.abs(one - other).max() > 0.02


def test_points_are_where_the_camera_sees_them(env: JacoEnv) -> None:
    """Cubes and tool are labelled in metres and in the front camera's pixels, red, green, blue first, the tool last."""
    env.reset(seed=4)
    labels, state = label(env, SCALE), env.state()
    red = env.project("front", state.cube_pos["red"][None])

    assert_allclose(labels.points_m[0, 0], state.cube_pos["red"], rtol=0, atol=1e-6)
    assert_allclose(labels.points_m[0, -1], state.tool_pos, rtol=0, atol=1e-6)
    assert_allclose(labels.points_px[0, 0], red[0], rtol=0, atol=1e-4)
    assert (labels.points_px[0, :3] > 0).all()
    assert (labels.points_px[0, :3] < 224).all()


def test_the_noisy_expert_is_the_expert_with_noise(env: JacoEnv) -> None:
    """Calm episodes repeat the expert, others stray from it; now and then the gripper does the opposite."""
    env.reset(seed=5)
    rng = np.random.default_rng(0)
    shaky, wanted = NoisyExpert(SCALE), env.expert()
    episodes = []
    for _ in range(60):
        shaky.begin(rng)
        episodes.append(np.stack([shaky.act(env, env.render, rng) for _ in range(10)]))
    actions = np.stack(episodes)
    strays = np.abs(actions[:, :, :6] - wanted[:6]).max((1, 2))
    flips = (actions[:, :, 6] != wanted[6]).mean()

    assert 5 < (strays < 1e-12).sum() < 40
    assert strays.max() > 0.5 * SCALE.q99[5]
    assert 0 < flips < 0.06
    assert_array_equal(env.expert(), wanted)


@pytest.mark.usefixtures("needs_gl")
def test_the_same_seed_collects_the_same_frames(tmp_path: Path) -> None:
    """Demonstrations can be made again: pictures and labels equal to the bit; another seed gives others."""
    short = Mixture(home=0.5, anywhere=0.2, near=0.2, holding=0.1, keep_far=0.9, keep_near=0.9, max_steps=4)
    stores = []
    for number, seed in enumerate(((7, 1), (7, 1), (7, 2))):
        wanted = Collection(6, seed, short)
        collect(tmp_path / str(number), wanted, NoisyExpert(SCALE), SCALE)
        stores.append(FrameStore.open(tmp_path / str(number), wanted.origin))
    first, again, other = stores

    assert len(first) == 6
    assert_array_equal(first.images, again.images)
    assert_array_equal(first.labels.actions, again.labels.actions)
    assert not np.array_equal(first.images, other.images)


@pytest.mark.usefixtures("needs_gl")
def test_another_camera_changes_nothing_but_the_pictures(tmp_path: Path) -> None:
    """With a wrist camera beside the front one: the same frames, labels and front pictures, each from two sides."""
    short = Mixture(home=0.5, anywhere=0.2, near=0.2, holding=0.1, keep_far=0.9, keep_near=0.9, max_steps=4)
    stores = {}
    for cameras in (("front",), ("front", "wrist")):
        wanted, folder = Collection(5, (7, 1), short, cameras), tmp_path / "-".join(cameras)
        collect(folder, wanted, NoisyExpert(SCALE), SCALE)
        stores[cameras] = FrameStore.open(folder, wanted.origin)
    one, both = stores.values()

    assert both.images.shape == (5, 2, 224, 224, 3)
    assert_array_equal(one.images[:, 0], both.images[:, 0])
    assert_array_equal(one.labels.points_px, both.labels.points_px)
    assert_array_equal(one.labels.actions, both.labels.actions)
    assert (both.images[:, 0] != both.images[:, 1]).mean() > 0.5


def test_frames_of_other_cameras_are_refused(tmp_path: Path, fill: Callable[..., FrameStore]) -> None:
    """What one camera saw is never read as two cameras' frames."""
    one, both = (Collection(2, (7, 1), NOISY_EXPERT, cameras) for cameras in (("front",), ("front", "wrist")))
    fill(tmp_path, 2, seed=0, origin=one.origin)

    assert len(FrameStore.open(tmp_path, one.origin)) == 2
    with pytest.raises(ConfigError, match="another recipe or scene"):
        FrameStore.open(tmp_path, both.origin)


def test_the_shares_of_a_mixture_make_one() -> None:
    """Every episode starts somewhere."""
    starts = (NOISY_EXPERT.home, NOISY_EXPERT.anywhere, NOISY_EXPERT.near, NOISY_EXPERT.holding)

    assert sum(starts) == pytest.approx(1)
