from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import torch
from safetensors.torch import load_file

from stillframe.models.actions import Statistics
from stillframe.models.llama.weight_packing import pack_for_inference
from stillframe.models.openvla.model import OpenVLA
from stillframe.models.registry import load_policy
from stillframe_lab.train.new_checkpoint import action_statistics, fresh_network, save_checkpoint
from stillframe_lab.train.recipe import JACO_TINY, Recipe


def test_what_is_saved_is_loaded(tmp_path: Path, recipe: Recipe) -> None:
    """Weights come back to the bit through the registry, under the recipe's sizes, some of them joined."""
    network = fresh_network(recipe)
    save_checkpoint(tmp_path / "tiny", dict(network.state_dict()), recipe)
    policy = load_policy(tmp_path / "tiny", dtype=torch.float32, device=torch.device("cpu"))
    assert isinstance(policy, OpenVLA)
    loaded = policy.network.state_dict()
    pack_for_inference(network)

    assert policy.info.name == "tiny"
    assert policy.decoder.config.hidden_size == recipe.width
    assert loaded.keys() == network.state_dict().keys()
    assert all(torch.equal(loaded[name], tensor) for name, tensor in network.state_dict().items())
    assert not list((tmp_path / "tiny").glob("*.part"))


def test_the_file_has_the_layouts_unread_blocks(tmp_path: Path, recipe: Recipe) -> None:
    """The towers' last blocks are stored, as zeros, so that any OpenVLA loader finds its tensors."""
    save_checkpoint(tmp_path, dict(fresh_network(recipe).state_dict()), recipe)
    stored = load_file(tmp_path / "model.safetensors")
    last = f"vision_backbone.featurizer.blocks.{recipe.tower_depth - 1}.attn.qkv.weight"

    assert stored[last].shape == (3 * recipe.tower_dim, recipe.tower_dim)
    assert not stored[last].any()
    assert "vision_backbone.fused_featurizer.norm.bias" in stored


def test_only_several_cameras_are_named(tmp_path: Path, recipe: Recipe) -> None:
    """One camera may go by any name, as in OpenVLA's own files; several are listed, in the order of their patches."""
    named = {}
    for cameras in (("front",), ("front", "wrist")):
        folder, wanted = tmp_path / "-".join(cameras), replace(recipe, cameras=cameras)
        save_checkpoint(folder, dict(fresh_network(wanted).state_dict()), wanted)
        named[cameras] = json.loads((folder / "config.json").read_text()).get("cameras")

    assert named == {("front",): None, ("front", "wrist"): ["front", "wrist"]}


def test_statistics_are_the_arms_limits() -> None:
    """+1 is 0.2 m/s and 1 rad/s for a tenth of a second; the gripper passes through."""
    scale = Statistics(action_statistics()).scales["jaco_sim"]

    assert scale.unnormalise(torch.ones(7).numpy()).tolist() == [0.02, 0.02, 0.02, 0.1, 0.1, 0.1, 1.0]
    assert scale.mask.tolist() == [True] * 6 + [False]


def test_no_two_patches_share_a_position(recipe: Recipe) -> None:
    """Position embeddings tell all 256 patches apart, in both towers."""
    backbone = fresh_network(recipe).vision_backbone
    for tower in (backbone.featurizer, backbone.fused_featurizer):
        positions = tower.pos_embed[0].detach()
        apart = torch.cdist(positions, positions) + torch.eye(256) * 9

        assert positions.shape == (256, recipe.tower_dim)
        assert apart.min() > 0.05


def test_the_recipe_we_ship_fits_twenty_megabytes(tmp_path: Path) -> None:
    """jaco-tiny's folder stays within its limit."""
    save_checkpoint(tmp_path, dict(fresh_network(JACO_TINY).state_dict()), JACO_TINY)

    assert sum(file.stat().st_size for file in tmp_path.iterdir()) <= 20_000_000
