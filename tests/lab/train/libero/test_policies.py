from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose

from stillframe.engine.local import LocalPolicy
from stillframe.models.prismatic.pixels import PixelPipeline
from stillframe.models.registry import load_policy
from stillframe_lab.libero.suites import TASKS
from stillframe_lab.train.batches import BatchSource
from stillframe_lab.train.cloning import Cloning, Progress
from stillframe_lab.train.frame_store import FrameStore
from stillframe_lab.train.libero.batches import draw_frames
from stillframe_lab.train.libero.dataset import frames_of
from stillframe_lab.train.libero.demonstrations import DemoFolder, wanted_demos
from stillframe_lab.train.libero.oft import LiberoOFTTrainer, OFTTrainee
from stillframe_lab.train.libero.openvla import LiberoTokenTrainer, TokenTrainee
from stillframe_lab.train.libero.recipe import LiberoRecipe
from stillframe_lab.train.libero.start import resized
from stillframe_lab.train.libero.words import INSTRUCTIONS, STATE_NAMES, action_statistics, with_state
from stillframe_lab.train.new_checkpoint import new_network, preprocessor_json, save_checkpoint

CPU = torch.device("cpu")
STATES = np.linspace(-1, 1, 16)[:, None] + np.zeros(8)
STATISTICS = with_state(action_statistics("libero_spatial"), "libero_spatial", STATES)
Demos = Callable[[int], DemoFolder]


def quiet(_: Progress) -> None:
    """Report nowhere."""


def store_of(folder: Path, demos: DemoFolder, recipe: LiberoRecipe) -> FrameStore:
    """One demonstration of each task."""
    return frames_of(folder, demos, wanted_demos(range(TASKS), 1), recipe.suite, recipe.image_px)


def source_of(store: FrameStore, recipe: LiberoRecipe) -> BatchSource:
    """Without noise."""
    pixels = PixelPipeline.from_config(preprocessor_json(recipe.image_px))
    return BatchSource([store], [], pixels, dagger_draw=0, noise_max=0)


def answer(folder: Path, store: FrameStore, frame: int, recipe: LiberoRecipe) -> LocalPolicy:
    """What the checkpoint in `folder` says of a frame."""
    act = LocalPolicy(load_policy(folder, dtype=torch.float32, device=CPU))
    images = dict(zip(recipe.cameras, store.images[frame], strict=False))
    instruction = INSTRUCTIONS[recipe.suite][store.labels.task[frame]]
    act({"images": images, "instruction": instruction, "state": store.labels.state[frame]})
    return act


def test_an_oft_says_what_it_was_trained_to_say(tmp_path: Path, oft_recipe: LiberoRecipe, demos: Demos) -> None:
    """Whatever the length of its text: rows, positions, mask, state and scaling are those of the served policy."""
    store = store_of(tmp_path / "frames", demos(1), oft_recipe)
    trainer = LiberoOFTTrainer(tmp_path / "run", oft_recipe, STATISTICS, CPU)
    trainer.run([store], [], 2, quiet)
    trainer.export(tmp_path / "out")
    recorded: list[torch.Tensor] = []
    trainee = trainer.trainee
    assert isinstance(trainee, OFTTrainee)
    trainee.policy.load_state_dict(trainer.ema.weights)
    trainee.policy.head.register_forward_hook(lambda _module, _given, said: recorded.append(said))
    trainee._noisy = lambda state, _: torch.from_numpy(trainee._scale.normalise(state.numpy())).float()  # type: ignore[method-assign]
    source, rng = source_of(store, oft_recipe), np.random.default_rng(3)
    batch = draw_frames(source, 4, 2, 3, rng)
    with torch.inference_mode():
        trainee(batch, torch.Generator())
    said = recorded[0].view(4, 3, 7).double().numpy()
    for row, (_, frame) in enumerate(source.picks(4, np.random.default_rng(3))):
        act = answer(tmp_path / "out", store, frame, oft_recipe)
        scale = load_policy(tmp_path / "out", dtype=torch.float32, device=CPU).statistics.scales["libero_spatial"]

        assert_allclose(act.last.chunk.actions, scale.unnormalise(said[row]), rtol=0, atol=1e-5)
    assert len(set(batch.task.tolist())) > 1


def test_a_token_policy_says_what_it_was_trained_to_say(
    tmp_path: Path, token_recipe: LiberoRecipe, demos: Demos
) -> None:
    """Its first number is the bin that the network in training finds likeliest, whatever the text's length."""
    store = store_of(tmp_path / "frames", demos(1), token_recipe)
    trainer = LiberoTokenTrainer(tmp_path / "run", token_recipe, STATISTICS, CPU)
    trainer.run([store], [], 2, quiet)
    trainer.export(tmp_path / "out")
    trainee = trainer.trainee
    assert isinstance(trainee, TokenTrainee)
    trainee.network.load_state_dict(trainer.ema.weights)
    recorded: list[torch.Tensor] = []
    rising = trainee._tokens.rising
    trainee._tokens.rising = lambda logits: recorded.append(rising(logits)) or recorded[0]  # type: ignore[method-assign]
    source = source_of(store, token_recipe)
    batch = draw_frames(source, 4, 2, token_recipe.horizon, np.random.default_rng(3))
    with torch.inference_mode():
        trainee(batch, torch.Generator().manual_seed(0))
    first = recorded[0][:, 0].argmax(-1).numpy()
    for row, (_, frame) in enumerate(source.picks(4, np.random.default_rng(3))):
        dx = answer(tmp_path / "out", store, frame, token_recipe).last.chunk.actions[0, 0]

        assert np.floor((dx + 1) * 255 / 2).clip(0, 254) == first[row]


@pytest.mark.parametrize("kind", [LiberoOFTTrainer, LiberoTokenTrainer])
def test_a_run_resumes_to_the_bit(
    kind: Callable[..., Cloning], tmp_path: Path, oft_recipe: LiberoRecipe, token_recipe: LiberoRecipe, demos: Demos
) -> None:
    """Three steps, or two and one in a new process's place: the same average."""
    recipe = oft_recipe if kind is LiberoOFTTrainer else token_recipe
    stores = [store_of(tmp_path / "frames", demos(1), recipe)]
    whole = kind(tmp_path / "whole", recipe, STATISTICS, CPU)
    whole.run(stores, [], 3, quiet)
    kind(tmp_path / "parts", recipe, STATISTICS, CPU).run(stores, [], 2, quiet)
    torch.manual_seed(99)
    resumed = kind(tmp_path / "parts", recipe, STATISTICS, CPU)
    resumed.run(stores, [], 3, quiet)

    assert all(torch.equal(resumed.ema.weights[name], tensor) for name, tensor in whole.ema.weights.items())


def test_the_contract_is_liberos(tmp_path: Path, oft_recipe: LiberoRecipe, token_recipe: LiberoRecipe) -> None:
    """What `stillframe eval --suite` reads of it: cameras on their mounts, state, sizes, statistics, gripper."""
    LiberoOFTTrainer(tmp_path / "a", oft_recipe, STATISTICS, CPU).export(tmp_path / "oft")
    LiberoTokenTrainer(tmp_path / "b", token_recipe, STATISTICS, CPU).export(tmp_path / "token")
    oft, token = (load_policy(tmp_path / name, dtype=torch.float32, device=CPU).info for name in ("oft", "token"))

    assert (oft.family, oft.cameras, oft.chunk_horizon) == ("openvla-oft", ("agentview", "wrist"), 3)
    assert (token.family, token.cameras, token.chunk_horizon) == ("openvla", ("agentview", "wrist"), 1)
    assert oft.state is not None
    assert oft.state.names == STATE_NAMES


@pytest.mark.parametrize("px", [28, 56, 224])
def test_training_begins_as_another_policy(tmp_path: Path, token_recipe: LiberoRecipe, px: int) -> None:
    """Its weights are taken over; positions of pictures of another size are resized, and stay positions."""
    large = replace(token_recipe, image_px=px)
    with torch.random.fork_rng():
        torch.manual_seed(1)
        theirs = new_network(large)
    save_checkpoint(tmp_path / "start", theirs.state_dict(), large)
    network = LiberoTokenTrainer(tmp_path / "run", token_recipe, STATISTICS, CPU, tmp_path / "start").trainee.network
    own, given = network.state_dict(), theirs.state_dict()
    name = "vision_backbone.featurizer.pos_embed"

    assert torch.equal(own["language_model.lm_head.weight"], given["language_model.lm_head.weight"])
    assert own[name].shape == (1, 4, 16)
    assert torch.equal(own[name], resized(given[name], 4))
    assert torch.allclose(resized(given[name], given[name].shape[1]), given[name])
