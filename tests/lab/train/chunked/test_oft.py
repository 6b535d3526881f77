from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from numpy.testing import assert_allclose

from stillframe.engine.local import LocalPolicy
from stillframe.models.prismatic.pixels import PixelPipeline
from stillframe.models.registry import load_policy
from stillframe_client.sim.proprioception import STATE_NAMES, STATE_UNITS
from stillframe_lab.train.batches import BatchSource
from stillframe_lab.train.chunked.oft import OFTTrainee, OFTTrainer, state_scale
from stillframe_lab.train.chunked.recipe import ChunkRecipe
from stillframe_lab.train.cloning import Progress
from stillframe_lab.train.frame_store import FrameStore
from stillframe_lab.train.new_checkpoint import PREPROCESSOR_JSON, new_network, save_checkpoint
from stillframe_lab.train.recipe import INSTRUCTIONS

CPU = torch.device("cpu")
Demos = Callable[[ChunkRecipe, int], FrameStore]


def quiet(_: Progress) -> None:
    """Report nowhere."""


def test_what_is_exported_is_what_was_trained(tmp_path: Path, oft_recipe: ChunkRecipe, chunk_demos: Demos) -> None:
    """The served policy says what the network in training says of the same frame: one architecture, one scaling."""
    store = chunk_demos(oft_recipe, 2)
    trainer = OFTTrainer(tmp_path / "run", oft_recipe, CPU)
    trainer.run([store], [], 2, quiet)
    trainer.export(tmp_path / "out")
    trainer.policy.load_state_dict(trainer.ema.weights)
    policy = load_policy(tmp_path / "out", dtype=torch.float32, device=CPU)
    act = LocalPolicy(policy)
    source = BatchSource([store], [], PixelPipeline.from_config(PREPROCESSOR_JSON), dagger_draw=0, noise_max=0)
    trainee = OFTTrainee(trainer.policy, oft_recipe, _prompts(policy))
    for frame in range(2):
        pixels = source.pixels_of([(store, frame)], np.random.default_rng(0))
        state, goal = store.labels.state[frame], int(store.labels.goals[frame, 0])
        scaled = torch.from_numpy(state_scale().normalise(state[None])).float()
        with torch.inference_mode():
            said = trainee.said(pixels, scaled, torch.tensor([[goal]])).chunks[0, 0].double().numpy()
        images = dict(zip(oft_recipe.cameras, store.images[frame], strict=True))
        act({"images": images, "instruction": INSTRUCTIONS[goal].instruction, "state": state})
        expected = policy.statistics.scales["jaco_sim"].unnormalise(said)

        assert_allclose(act.last.chunk.actions, expected, rtol=0, atol=1e-5)


def test_the_contract_is_the_simulated_arms(tmp_path: Path, oft_recipe: ChunkRecipe) -> None:
    """Two cameras, a chunk, the state's names and units: what the simulator gives is what the policy asks for."""
    trainer = OFTTrainer(tmp_path / "run", oft_recipe, CPU)
    trainer.export(tmp_path / "out")
    info = load_policy(tmp_path / "out", dtype=torch.float32, device=CPU).info

    assert (info.family, info.cameras, info.chunk_horizon) == ("openvla-oft", ("front", "wrist"), 3)
    assert info.state is not None
    assert (info.state.names, info.state.units) == (STATE_NAMES, STATE_UNITS)


def test_a_run_resumes_to_the_bit(tmp_path: Path, oft_recipe: ChunkRecipe, chunk_demos: Demos) -> None:
    """Three steps, or two and one in a new process's place: the same average, head and projector included."""
    stores = [chunk_demos(oft_recipe, 3)]
    whole = OFTTrainer(tmp_path / "whole", oft_recipe, CPU)
    whole.run(stores, [], 3, quiet)
    OFTTrainer(tmp_path / "parts", oft_recipe, CPU).run(stores, [], 2, quiet)
    torch.manual_seed(99)
    resumed = OFTTrainer(tmp_path / "parts", oft_recipe, CPU)
    resumed.run(stores, [], 3, quiet)

    assert {name.partition(".")[0] for name in whole.ema.weights} == {"network", "projector", "head"}
    assert all(torch.equal(resumed.ema.weights[name], tensor) for name, tensor in whole.ema.weights.items())


def test_training_moves_every_tensor_but_the_words_head(
    tmp_path: Path, oft_recipe: ChunkRecipe, chunk_demos: Demos
) -> None:
    """After two steps all has moved, apart from what the regressed chunk does not go through."""
    trainer = OFTTrainer(tmp_path, replace(oft_recipe, weight_decay=0.0, batch_images=4), CPU)
    before = {name: tensor.clone() for name, tensor in trainer.policy.state_dict().items()}
    trainer.run([chunk_demos(oft_recipe, 3)], [], 2, quiet)
    after = trainer.policy.state_dict()

    assert [name for name in before if torch.equal(before[name], after[name])] == [
        "network.language_model.lm_head.weight"
    ]


def test_an_openvla_is_the_start(tmp_path: Path, oft_recipe: ChunkRecipe) -> None:
    """The backbone begins with its weights; head and projector are new."""
    weights = dict(new_network(oft_recipe).state_dict())
    save_checkpoint(tmp_path / "earlier", weights, oft_recipe)
    begun = OFTTrainer(tmp_path / "run", oft_recipe, CPU, tmp_path / "earlier").policy.network.state_dict()

    assert all(torch.equal(begun[name], tensor) for name, tensor in weights.items())


def _prompts(policy: object) -> list[list[int]]:
    """The served policy's ids of each instruction."""
    return [list(policy.prompt.ids(goal.instruction)) for goal in INSTRUCTIONS]  # type: ignore[attr-defined]
