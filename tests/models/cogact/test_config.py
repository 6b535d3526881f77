from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from stillframe.errors import CheckpointError
from stillframe.models.cogact.dit import DiTConfig
from stillframe.models.cogact.model import CogACT
from stillframe.models.registry import decoder_sizes, load_policy

Edit = Callable[[Callable[[dict[str, Any]], Any]], None]
CPU = torch.device("cpu")


def load(run: Path, **config: Any) -> CogACT:
    """The policy that the registry finds in the folder."""
    policy = load_policy(run, dtype=torch.float32, device=CPU, config=config)
    assert isinstance(policy, CogACT)
    return policy


def test_sizes_are_read_off_config_and_shapes(run: Path) -> None:
    """The decoder's from the small checkpoint's own key, the transformer's from its tensors."""
    policy = load(run)

    assert policy.head.config == DiTConfig(width=40, depth=2, heads=4, condition_width=16, horizon=16, action_dim=7)
    assert (policy.info.family, policy.info.chunk_horizon, policy.info.default_unnorm_key) == ("cogact", 16, None)
    assert decoder_sizes(run).rms_norm_eps == 1e-5


def test_how_chunks_are_drawn_is_settable(run: Path) -> None:
    """Ten steps and a guidance of 1.5, or what takes their place."""
    assert (load(run).denoising.steps, load(run).denoising.guidance) == (10, 1.5)
    assert load(run, num_ddim_steps=5, cfg_scale=1).denoising.steps == 5


def test_the_head_stays_in_float32(run: Path) -> None:
    """Only the vision-language model is cast."""
    policy = load_policy(run, dtype=torch.bfloat16, device=CPU)

    assert isinstance(policy, CogACT)
    assert (policy.dtype, policy.head.x_embedder.linear.weight.dtype) == (torch.bfloat16, torch.float32)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"vla": {"base_vlm": "prism-siglip-224px+7b"}}, "vla.base_vlm is 'prism-siglip-224px.7b'; only"),
        ({"past_action_window_size": 4}, "past_action_window_size is 4; only 0"),
        ({"future_action_window_size": 7}, "future_action_window_size is 7; the weights are for 15"),
        ({"action_dim": 14}, "action_dim is 14; the weights are for 7"),
        ({"num_ddim_steps": 11}, "num_ddim_steps is 11; expected one of"),
        ({"num_ddim_steps": True}, "num_ddim_steps is True; expected one of"),
        ({"cfg_scale": float("nan")}, "cfg_scale is nan; expected 0 to 20"),
        ({"cfg_scale": "high"}, "cfg_scale is 'high'; expected 0 to 20"),
        ({"micro_sizes": []}, "no diffusion head|wide; expected one of|has shape|longer than"),
        ({"micro_sizes": [1]}, "micro_sizes is \\[1\\]; expected sizes by part"),
    ],
    ids=str,
)
def test_what_is_not_served_is_named(run: Path, edit: Edit, change: dict[str, Any], said: str) -> None:
    """By the key of config.json that says it."""
    edit(lambda config: config.update(change))

    with pytest.raises(CheckpointError, match=said):
        load(run)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda model: model.pop("action_model"), "has no diffusion head"),
        (lambda model: model.pop("projector"), "lacks 6 tensors: projector.fc1.weight"),
        (
            lambda model: model["action_model"].pop("net.final_layer.linear.bias"),
            "lacks tensor action_model.final_layer",
        ),
        (
            lambda model: model["action_model"].update({"net.z_embedder.linear.weight": torch.ones(40, 32)}),
            "steered by rows of 32 numbers, the language model's have 16",
        ),
        (lambda model: model.update(stranger={"w": torch.ones(2)}), "holds unknown tensor stranger.w"),
        (
            lambda model: model["action_model"]["net.blocks.0.mlp.fc1.weight"].fill_(float("nan")),
            "holds nan at",
        ),
    ],
    ids=["no head", "no projector", "head cut", "another width", "stranger", "nan"],
)
def test_weights_that_do_not_belong_together_are_named(
    run: Path, edit_weights: Edit, change: Callable[[dict[str, Any]], Any], said: str
) -> None:
    """Nothing is half loaded."""
    edit_weights(change)

    with pytest.raises(CheckpointError, match=said):
        load(run)


def test_there_is_one_file_of_weights(run: Path) -> None:
    """None, two, or one that is no archive of tensors: said so."""
    (weights,) = (run / "checkpoints").glob("*.pt")
    shutil.copy(weights, run / "checkpoints" / "step-2.pt")
    with pytest.raises(CheckpointError, match=r"expected one file that ends in \.pt"):
        load(run)
    (run / "checkpoints" / "step-2.pt").unlink()
    weights.write_bytes(b"<!doctype html><html>not found</html>")
    with pytest.raises(CheckpointError, match="web page"):
        load(run)
    weights.unlink()
    with pytest.raises(CheckpointError, match="holds the weights none"):
        load(run)


def test_a_missing_tokenizer_is_asked_for(run: Path) -> None:
    """Published folders have none."""
    (run / "tokenizer.json").unlink()

    with pytest.raises(CheckpointError, match=r"lacks tokenizer\.json"):
        load(run)
