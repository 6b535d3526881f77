from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose

from stillframe.engine.local import LocalPolicy
from stillframe.models.cogact.diffusion import denoise
from stillframe.models.prismatic.pixels import PixelPipeline
from stillframe.models.registry import load_policy
from stillframe_lab.train.batches import BatchSource
from stillframe_lab.train.chunked.cogact import CogACTTrainer
from stillframe_lab.train.chunked.recipe import ChunkRecipe
from stillframe_lab.train.cloning import Progress
from stillframe_lab.train.frame_store import FrameStore
from stillframe_lab.train.new_checkpoint import PREPROCESSOR_JSON
from stillframe_lab.train.recipe import INSTRUCTIONS

CPU = torch.device("cpu")
Demos = Callable[[ChunkRecipe, int], FrameStore]


def quiet(_: Progress) -> None:
    """Report nowhere."""


def test_what_is_exported_is_what_was_trained(tmp_path: Path, cogact_recipe: ChunkRecipe, chunk_demos: Demos) -> None:
    """The served policy draws what the networks in training draw from the same frame and noise."""
    store = chunk_demos(cogact_recipe, 2)
    trainer = CogACTTrainer(tmp_path / "run", cogact_recipe, CPU)
    trainer.run([store], [], 2, quiet)
    trainer.export(tmp_path / "out")
    trainer.policy.load_state_dict(trainer.ema.weights)
    policy = load_policy(tmp_path / "out", dtype=torch.float32, device=CPU)
    act = LocalPolicy(policy)
    source = BatchSource([store], [], PixelPipeline.from_config(PREPROCESSOR_JSON), dagger_draw=0, noise_max=0)
    pixels = source.pixels_of([(store, 0)], np.random.default_rng(0))
    head = trainer.policy.head
    with torch.inference_mode():
        _, steering = trainer.trainee.decode(trainer.policy.network.patches(pixels[:, 0]))
        nothing = head.z_embedder.uncondition
        noise = torch.randn(1, 4, 7, generator=torch.Generator().manual_seed(5))
        for index, goal in enumerate(INSTRUCTIONS):
            row = steering[:, index]
            drawn = denoise(head, noise, row, nothing, policy.denoising)
            act({"images": {"front": store.images[0, 0]}, "instruction": goal.instruction})
            served = policy.draw(row, noise)

            assert_allclose(served.numpy(), drawn.numpy(), rtol=0, atol=1e-5)
    assert act.last.chunk.actions.shape == (4, 7)


def test_the_served_row_that_steers_is_the_trained_one(
    tmp_path: Path, cogact_recipe: ChunkRecipe, chunk_demos: Demos
) -> None:
    """Six instructions that share a picture's rows in training steer as each does alone when served."""
    store = chunk_demos(cogact_recipe, 2)
    trainer = CogACTTrainer(tmp_path / "run", cogact_recipe, CPU)
    trainer.export(tmp_path / "out")
    policy = load_policy(tmp_path / "out", dtype=torch.float32, device=CPU)
    steered: list[torch.Tensor] = []
    draw = policy.draw
    policy.draw = lambda condition, *others: (steered.append(condition), draw(condition, *others))[1]
    act = LocalPolicy(policy)
    source = BatchSource([store], [], PixelPipeline.from_config(PREPROCESSOR_JSON), dagger_draw=0, noise_max=0)
    with torch.inference_mode():
        pixels = source.pixels_of([(store, 1)], np.random.default_rng(0))
        _, expected = trainer.trainee.decode(trainer.policy.network.patches(pixels[:, 0]))
    for goal in INSTRUCTIONS:
        act({"images": {"front": store.images[1, 0]}, "instruction": goal.instruction})

    assert_allclose(torch.cat(steered).numpy(), expected[0].numpy(), rtol=0, atol=1e-4)
    assert (expected[0, 0] - expected[0, 5]).abs().max() > 1e-3


def test_a_run_resumes_to_the_bit(tmp_path: Path, cogact_recipe: ChunkRecipe, chunk_demos: Demos) -> None:
    """Three steps, or two and one in a new process's place: the same average, the diffusion transformer included."""
    stores = [chunk_demos(cogact_recipe, 3)]
    whole = CogACTTrainer(tmp_path / "whole", cogact_recipe, CPU)
    whole.run(stores, [], 3, quiet)
    CogACTTrainer(tmp_path / "parts", cogact_recipe, CPU).run(stores, [], 2, quiet)
    torch.manual_seed(99)
    resumed = CogACTTrainer(tmp_path / "parts", cogact_recipe, CPU)
    resumed.run(stores, [], 3, quiet)

    assert {name.partition(".")[0] for name in whole.ema.weights} == {"network", "head"}
    assert all(torch.equal(resumed.ema.weights[name], tensor) for name, tensor in whole.ema.weights.items())


@pytest.mark.slow
def test_training_learns_a_frames_chunk(tmp_path: Path, cogact_recipe: ChunkRecipe, chunk_demos: Demos) -> None:
    """Shown one frame again and again, the noise in its chunks is predicted better."""
    longer = replace(cogact_recipe, steps=1000, batch_images=1, noise_sigma_max=0.0, learning_rate=8e-3, repeats=8)
    seen: list[Progress] = []
    CogACTTrainer(tmp_path, longer, CPU).run([chunk_demos(cogact_recipe, 1)], [], 80, seen.append)

    assert seen[-1].loss < 0.85 * seen[0].loss


def test_the_condition_is_left_out_now_and_then(tmp_path: Path, cogact_recipe: ChunkRecipe, chunk_demos: Demos) -> None:
    """Guidance needs the row for no condition: it is trained where a share is left out, and only there."""
    moved = {}
    for share in (0.0, 1.0):
        recipe = replace(cogact_recipe, unsteered=share, weight_decay=0.0)
        trainer = CogACTTrainer(tmp_path / str(share), recipe, CPU)
        row = trainer.policy.head.z_embedder.uncondition
        before = row.detach().clone()
        trainer.run([chunk_demos(recipe, 2)], [], 1, quiet)
        moved[share] = not torch.equal(row.detach(), before)

    assert moved == {0.0: False, 1.0: True}
