"""Training of jaco-tiny-pi0 and -pi05: what is exported is what was trained, the starts, lerobot's layout."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose

from stillframe.engine.local import LocalPolicy
from stillframe.errors import ConfigError
from stillframe.models.llama.attention_backend import MaskedAttention
from stillframe.models.llama.decoder import DecoderConfig, DecoderLayer
from stillframe.models.llama.rotary import Rotary
from stillframe.models.pi0.gemma import GemmaConfig
from stillframe.models.pi0.model import Pi0
from stillframe.models.prismatic.pixels import PixelPipeline
from stillframe.models.registry import load_policy
from stillframe_client.sim.proprioception import STATE_NAMES, STATE_UNITS
from stillframe_lab.train.batches import BatchSource
from stillframe_lab.train.chunked.recipe import ChunkRecipe
from stillframe_lab.train.cloning import Progress
from stillframe_lab.train.frame_store import FrameStore
from stillframe_lab.train.new_checkpoint import PREPROCESSOR_JSON, new_network, save_checkpoint
from stillframe_lab.train.pi0.lerobot import save_lerobot
from stillframe_lab.train.pi0.recipe import Pi0Recipe
from stillframe_lab.train.pi0.start import take_layer
from stillframe_lab.train.pi0.trainer import Pi0Trainer
from stillframe_lab.train.recipe import INSTRUCTIONS

CPU = torch.device("cpu")
Demos = Callable[[ChunkRecipe, int], FrameStore]


def quiet(_: Progress) -> None:
    """Report nowhere."""


@pytest.fixture(params=["pi0", "pi05"])
def recipe(request: pytest.FixtureRequest, pi0_recipe: Pi0Recipe, pi05_recipe: Pi0Recipe) -> Pi0Recipe:
    """Each of the two."""
    return pi05_recipe if request.param == "pi05" else pi0_recipe


def load(folder: Path) -> Pi0:
    """A checkpoint as the daemon has it."""
    policy = load_policy(folder, dtype=torch.float32, device=CPU)
    assert isinstance(policy, Pi0)
    return policy


def test_what_is_exported_is_what_was_trained(tmp_path: Path, recipe: Pi0Recipe, chunk_demos: Demos) -> None:
    """The served policy draws the chunk that the network in training draws from the same noise."""
    store = chunk_demos(recipe, 2)
    trainer = Pi0Trainer(tmp_path / "run", recipe, CPU)
    trainer.run([store], [], 3, quiet)
    trainer.export(tmp_path / "out")
    trainer.policy.load_state_dict(trainer.ema.weights)
    policy, noises = load(tmp_path / "out"), []
    draw = policy.network.draw
    policy.network.draw = lambda *given: (noises.append(given[3]), draw(*given))[1]  # type: ignore[method-assign]
    act = LocalPolicy(policy)
    source = BatchSource([store], [], PixelPipeline.from_config(PREPROCESSOR_JSON), dagger_draw=0, noise_max=0)
    for frame in range(2):
        pixels = source.pixels_of([(store, frame)], np.random.default_rng(0))[:, 0, 3:]
        state, goal = store.labels.state[frame], int(store.labels.goals[frame, 0])
        act(
            {
                "images": {"front": store.images[frame, 0].copy()},
                "instruction": INSTRUCTIONS[goal].instruction,
                "state": state,
            }
        )
        drawn = _integrated(trainer, pixels, state, goal, noises[-1])
        expected = trainer.trainee.scales.actions.unnormalise(drawn.double().numpy())

        assert_allclose(act.last.chunk.actions, expected, rtol=0, atol=1e-5)


def _integrated(trainer: Pi0Trainer, pixels: torch.Tensor, state: Any, goal: int, noise: torch.Tensor) -> torch.Tensor:
    """Ten steps with the training's own velocity: [horizon, 7]."""
    trainee = trainer.trainee
    with torch.inference_mode():
        scaled = trainee.scales.scaled_state(torch.from_numpy(state[None]))
        prefix = trainee.prefix(pixels, scaled, torch.tensor([[goal]]))
        actions = noise[:, None]
        for step in range(10):
            time = torch.full((1, 1), 1.0 - step / 10)
            actions = actions - 0.1 * trainee.flow_loss.velocity(prefix.kv[0], scaled, actions, time)
    return actions[0, 0]


def test_shared_rows_say_what_each_instruction_says_alone(
    tmp_path: Path, recipe: Pi0Recipe, chunk_demos: Demos
) -> None:
    """Where pictures do not see the text, three instructions in one sequence are three sequences."""
    store = chunk_demos(recipe, 2)
    trainee = Pi0Trainer(tmp_path, recipe, CPU).trainee
    pixels, state = torch.randn(2, 3, 224, 224), trainee.scales.scaled_state(torch.from_numpy(store.labels.state[:2]))
    goals = torch.tensor([[3, 0, 5], [4, 1, 3]])
    with torch.inference_mode():
        together = trainee.prefix(pixels, state, goals, as_served=False)
        alone = [trainee.prefix(pixels, state, goals[:, [at]], as_served=False) for at in range(3)]

    for at, one in enumerate(alone):
        torch.testing.assert_close(together.text[:, at], one.text[:, 0], rtol=0, atol=1e-4)
        for kept, own in zip(together.kv[at], one.kv[0], strict=True):
            torch.testing.assert_close(kept[0], own[0], rtol=0, atol=1e-4)
            torch.testing.assert_close(kept[1], own[1], rtol=0, atol=1e-4)
    assert (together.text[0, 0] - together.text[0, 2]).abs().max() > 1e-3


def test_copies_do_not_see_each_other(tmp_path: Path, recipe: Pi0Recipe) -> None:
    """A chunk's velocity is the same beside another noisy copy of it, and differs from the other's."""
    trainee = Pi0Trainer(tmp_path, recipe, CPU).trainee
    noisy, times = torch.randn(2, 2, recipe.horizon, 7), torch.tensor([[0.2, 0.9], [0.5, 0.1]])
    with torch.inference_mode():
        state = torch.zeros(2, 7)
        kv = trainee.prefix(torch.randn(2, 3, 224, 224), state, torch.tensor([[3], [0 + 4]])).kv[0]
        both = trainee.flow_loss.velocity(kv, state, noisy, times)
        alone = trainee.flow_loss.velocity(kv, state, noisy[:, 1:], times[:, 1:])

    torch.testing.assert_close(both[:, 1:], alone, rtol=0, atol=1e-5)
    assert (both[:, 0] - both[:, 1]).abs().max() > 1e-3


def test_the_contract_is_the_simulated_arms(tmp_path: Path, recipe: Pi0Recipe) -> None:
    """The family, the chunk, the state's names and units: what the simulator gives is what the policy asks for."""
    Pi0Trainer(tmp_path / "run", recipe, CPU).export(tmp_path / "out")
    info = load(tmp_path / "out").info

    assert (info.family, info.cameras) == ("pi05" if recipe.adaptive else "pi0", ("front",))
    assert info.chunk_horizon == 3
    assert info.state is not None
    assert (info.state.names, info.state.units) == (STATE_NAMES, STATE_UNITS)
    assert_allclose(info.norm_stats["jaco_sim"]["q99"], [0.02] * 3 + [0.1] * 3 + [1.0])


def test_a_run_resumes_to_the_bit(tmp_path: Path, recipe: Pi0Recipe, chunk_demos: Demos) -> None:
    """Three steps, or two and one in a new process's place: the same average."""
    stores = [chunk_demos(recipe, 3)]
    whole = Pi0Trainer(tmp_path / "whole", recipe, CPU)
    whole.run(stores, [], 3, quiet)
    Pi0Trainer(tmp_path / "parts", recipe, CPU).run(stores, [], 2, quiet)
    torch.manual_seed(99)
    resumed = Pi0Trainer(tmp_path / "parts", recipe, CPU)
    resumed.run(stores, [], 3, quiet)

    assert all(torch.equal(resumed.ema.weights[name], tensor) for name, tensor in whole.ema.weights.items())


def test_training_learns_a_frames_chunk(tmp_path: Path, recipe: Pi0Recipe, chunk_demos: Demos) -> None:
    """Shown one frame again and again, the velocity of its chunks is predicted better."""
    longer = replace(recipe, steps=1000, batch_images=1, noise_sigma_max=0.0, learning_rate=1.6e-2, repeats=8)
    seen: list[Progress] = []
    Pi0Trainer(tmp_path, longer, CPU).run([chunk_demos(recipe, 1)], [], 40, seen.append)

    assert seen[-1].loss < 0.85 * seen[0].loss


def test_a_pi0_begins_with_an_openvlas_decoder_and_learns_its_patches(
    tmp_path: Path, pi0_recipe: Pi0Recipe, chunk_demos: Demos
) -> None:
    """Its layers are the start's; at first only the tower learns, and comes nearer."""
    torch.manual_seed(0)
    weights = dict(new_network(pi0_recipe.start).state_dict())
    save_checkpoint(tmp_path / "start", weights, pi0_recipe.start)
    recipe = replace(pi0_recipe, distil_steps=60, steps=1000, noise_sigma_max=0.0)
    seen: list[Progress] = []
    trainer = Pi0Trainer(tmp_path / "run", recipe, CPU, tmp_path / "start")
    own = trainer.policy.decoder.model.state_dict()
    theirs = {name.removeprefix("language_model.model."): tensor for name, tensor in weights.items()}
    layer = {name: tensor.clone() for name, tensor in own.items() if name.startswith("layers.1.")}
    for until in (1, 60):
        trainer.run([chunk_demos(recipe, 2)], [], until, seen.append)

    values = theirs["layers.1.self_attn.v_proj.weight"]
    assert torch.equal(layer["layers.1.self_attn.v_proj.weight"], values)
    assert all(torch.equal(trainer.policy.decoder.model.state_dict()[name], tensor) for name, tensor in layer.items())
    assert seen[-1].loss < 0.9 * seen[0].loss


def test_a_layer_of_a_llama_computes_nearly_the_same_in_a_gemma() -> None:
    """Several key heads in the room of one: without turns the attention is the same, and the feed-forward is near."""
    torch.manual_seed(0)
    llama = DecoderConfig(hidden_size=32, intermediate_size=48, num_attention_heads=4, num_key_value_heads=4)
    gemma = GemmaConfig(
        hidden_size=32, intermediate_size=48, num_attention_heads=4, num_key_value_heads=1, head_width=32
    )
    theirs, own = DecoderLayer(llama), DecoderLayer(gemma)
    with torch.no_grad():
        take_layer(own, theirs)
        rows, still = torch.randn(1, 6, 32), torch.zeros(6, dtype=torch.long)
        turns = [Rotary.at(still, size, 10_000.0, torch.float32) for size in (8, 32)]
        attention = MaskedAttention(still, None)
        mixed = [
            layer.self_attn(rows, 0, turn, attention, None) for layer, turn in zip((theirs, own), turns, strict=True)
        ]
        said = [layer(rows, 0, turn, attention) for layer, turn in zip((theirs, own), turns, strict=True)]

    torch.testing.assert_close(mixed[0], mixed[1], rtol=0, atol=1e-5)
    assert (said[0] - said[1]).norm() < 0.02 * (said[0] - rows).norm()


def test_more_heads_than_there_is_room_for_are_refused() -> None:
    """With how many there are, and what to do."""
    llama = DecoderConfig(hidden_size=32, intermediate_size=48, num_attention_heads=4, num_key_value_heads=4)
    gemma = GemmaConfig(
        hidden_size=32, intermediate_size=48, num_attention_heads=4, num_key_value_heads=1, head_width=16
    )
    with pytest.raises(ConfigError, match="4 key heads of 8 numbers do not fit one of 16; expected a larger head_dim"):
        take_layer(DecoderLayer(gemma), DecoderLayer(llama))


def test_a_pi05_begins_as_the_pi0_that_it_is_given(
    tmp_path: Path, pi0_recipe: Pi0Recipe, pi05_recipe: Pi0Recipe
) -> None:
    """What the two share is the same; its norms begin with the pi0's factors, hardly steered, and open gates."""
    pi0 = Pi0Trainer(tmp_path / "pi0", pi0_recipe, CPU)
    with torch.no_grad():
        pi0.policy.expert.norm.weight.fill_(1.5)
    pi0.ema.weights = dict(pi0.policy.state_dict())
    pi0.export(tmp_path / "out")
    begun = Pi0Trainer(tmp_path / "pi05", pi05_recipe, CPU, tmp_path / "out").policy.state_dict()
    shared = [name for name in begun if name in pi0.ema.weights]
    bias = begun["expert.norm.dense.bias"].view(3, -1)

    assert "vision.blocks.0.attn.qkv.weight" in shared
    assert all(torch.allclose(begun[name], pi0.ema.weights[name], rtol=0, atol=1e-6) for name in shared)
    torch.testing.assert_close(bias, torch.tensor([0.5, 0.0, 1.0])[:, None].expand(3, 16), rtol=0, atol=1e-6)


def test_in_lerobots_layout_it_is_the_same_policy(tmp_path: Path, recipe: Pi0Recipe) -> None:
    """The same contract, and nearly the same chunk: the two packages' times differ by rounding."""
    Pi0Trainer(tmp_path / "run", recipe, CPU).export(tmp_path / "openpi")
    save_lerobot(tmp_path / "openpi", tmp_path / "lerobot")
    picture = np.random.default_rng(3).integers(0, 256, (224, 224, 3), dtype=np.uint8)
    said, infos = [], []
    for layout in ("openpi", "lerobot"):
        policy = load(tmp_path / layout)
        act = LocalPolicy(policy)
        act({"images": {"front": picture}, "instruction": "reach the blue cube", "state": np.full(7, 0.3)})
        said.append(act.last.chunk.actions)
        infos.append(policy.info)

    assert (infos[0].family, infos[0].state.names) == (infos[1].family, infos[1].state.names)
    assert load(tmp_path / "lerobot").config.origin == "lerobot"
    assert_allclose(said[0], said[1], rtol=0, atol=2e-4)
    with pytest.raises(ConfigError, match="in lerobot's layout already"):
        save_lerobot(tmp_path / "lerobot", tmp_path / "again")
