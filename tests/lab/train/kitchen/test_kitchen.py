from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose, assert_array_equal
from tests.lab.train.chunked.conftest import HEAD, SHORT, SIZES
from tokenizers import Tokenizer

from stillframe.engine.local import LocalPolicy
from stillframe.models.registry import load_policy
from stillframe_client.sim.kitchen import TASKS, KitchenEnv
from stillframe_lab.train.chunked.oft import OFTTrainer
from stillframe_lab.train.chunked.recipe import InstructedRecipe
from stillframe_lab.train.cloning import Progress
from stillframe_lab.train.demonstrations import NoisyExpert, collect
from stillframe_lab.train.frame_store import FrameStore
from stillframe_lab.train.kitchen.collection import KitchenCollection, aim_of, expert_chunk
from stillframe_lab.train.kitchen.recipe import INSTRUCTIONS, JACO_TINY_KITCHEN, NAMES, NOISY_EXPERT, WORDS
from stillframe_lab.train.kitchen.trainer import KitchenTrainer, kitchen_episodes
from stillframe_lab.train.libero.dataset import TaskLabels
from stillframe_lab.train.new_checkpoint import WORDS as JACO_WORDS
from stillframe_lab.train.new_checkpoint import action_scale, build_tokenizer

HORIZON = 3
WANTED = KitchenCollection(4, (5, 1, 0), NOISY_EXPERT, ("front", "wrist"), HORIZON)
TINY: InstructedRecipe = replace(JACO_TINY_KITCHEN, **SIZES, **HEAD, **SHORT, horizon=HORIZON, execute=2)
CPU = torch.device("cpu")


def quiet(_: Progress) -> None:
    """Report nowhere."""


@pytest.mark.parametrize("task", TASKS)
def test_a_frame_is_labelled_for_its_own_task(task: str) -> None:
    """The chunk is what the expert goes on to do; the table and its stain are left as they are."""
    env = KitchenEnv(task, cameras=())
    observed, _ = env.reset(seed=3)
    env.teleport(np.random.default_rng(1), holding=TASKS[task].moved)
    before = env.world.data.qpos.copy(), env.state().wiped
    labels = WANTED.label(env, action_scale(), np.random.default_rng(0))
    after = env.world.data.qpos.copy(), env.state().wiped
    driven = []
    for _ in range(HORIZON):
        driven.append(env.expert())
        env.step(driven[-1])

    assert_array_equal(before[0], after[0])
    assert before[1] == after[1]
    assert NAMES[labels.task[0]] == task
    assert_allclose(action_scale().unnormalise(labels.chunks[0].astype(np.float64)), driven, rtol=0, atol=1e-7)
    assert labels.points_m.shape == (1, 3, 3)
    assert labels.state.shape == (1, *observed["state"].shape)


def test_what_is_to_be_wiped_next_is_the_aim() -> None:
    """The left end of what is left of the stain; of a pot the pot."""
    env = KitchenEnv("wipe-table", cameras=())
    env.reset(seed=1)
    state = env.state()
    some = replace(state, wiped=(True, True, *state.wiped[2:]))

    assert_array_equal(aim_of(some, env.task), state.stain[2])
    assert_array_equal(aim_of(replace(state, wiped=(True,) * len(state.wiped)), env.task), state.pos["sponge"])


def test_every_instruction_has_its_words_and_known_ones_keep_their_ids() -> None:
    """No word is unknown; what jaco-tiny-oft's tokenizer says of its own instructions this one says too."""
    ours, theirs = build_tokenizer(WORDS), build_tokenizer(JACO_WORDS)

    def ids(tokenizer: Tokenizer, text: str) -> list[int]:
        return list(tokenizer.encode(f"In: What action should the robot take to {text}?\nOut:").ids)

    assert all(ours.token_to_id(word) is not None for text in INSTRUCTIONS for word in text.split(" "))
    assert len({*INSTRUCTIONS}) == len(TASKS)
    assert ids(ours, "pick up the red cube") == ids(theirs, "pick up the red cube")


def test_frames_of_all_tasks_train_a_policy_that_is_served(tmp_path: Path, needs_gl: None) -> None:  # noqa: ARG001
    """Collected, trained on from another policy's weights, written, loaded: it answers an instruction with a chunk."""
    start = tmp_path / "start"
    OFTTrainer(tmp_path / "theirs", TINY, CPU).export(start)
    collect(tmp_path / "frames", WANTED, NoisyExpert(action_scale()), action_scale())
    store = FrameStore.open(tmp_path / "frames", WANTED.origin, TaskLabels)
    trainer = KitchenTrainer(tmp_path / "run", TINY, CPU, start)
    begun = {name: tensor.clone() for name, tensor in trainer.averaged.items()}
    trainer.run([store], [], 2, quiet)
    trainer.export(tmp_path / "out")
    policy = LocalPolicy(load_policy(tmp_path / "out", dtype=torch.float32, device=CPU))
    images = dict(zip(("front", "wrist"), store.images[0], strict=True))
    policy({"images": images, "instruction": INSTRUCTIONS[3], "state": store.labels.state[0]})  # type: ignore[attr-defined]
    saved = torch.load(start / "action_head--latest_checkpoint.pt", weights_only=True)

    assert len(store) == WANTED.frames
    assert policy.last.chunk.actions.shape == (HORIZON, 7)
    assert all(torch.equal(begun[f"head.{name.removeprefix('module.')}"], own) for name, own in saved.items())


def test_candidates_play_as_many_of_each_task() -> None:
    """On the selection's seeds."""
    played = [(env.name, seed) for env, seed in kitchen_episodes(replace(TINY, cameras=(), select_episodes=8))]

    assert played == [(name, TINY.select_seed + index) for name in NAMES for index in range(2)]


def test_a_chunk_is_as_long_as_it_is_asked_for() -> None:
    """Seven numbers each."""
    env = KitchenEnv("pick-pot", cameras=())
    env.reset(seed=0)

    assert expert_chunk(env, 5).shape == (5, 7)
