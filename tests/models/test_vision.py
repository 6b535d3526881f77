from __future__ import annotations

import json
from pathlib import Path

import torch
from safetensors import safe_open

from stillframe.models.openvla import OpenVLAConfig, OpenVLANetwork
from stillframe.models.vision import Tower, TowerConfig, unused_tensors

SMALL = TowerConfig(8, 3, 2, 4.0, prefix_tokens=5, layer_scale=True, image_px=28)


def test_patches_are_in_raster_order() -> None:
    """A bright spot in row 1, column 0 of the grid moves the embedding of patch 2, and of no other."""
    torch.manual_seed(0)
    tower = Tower(SMALL)
    dark = torch.zeros(1, 3, 28, 28)
    bright = dark.clone()
    bright[:, :, 20, 3] = 1
    moved = (tower.patch_embed(bright) - tower.patch_embed(dark)).abs().sum(-1)

    assert moved.nonzero()[:, 1].tolist() == [2]


def test_prefix_tokens_are_seen_but_not_returned() -> None:
    """Class and register tokens change every patch, and leave as many rows as there are patches."""
    torch.manual_seed(0)
    tower = Tower(SMALL)
    torch.nn.init.normal_(tower.reg_token)
    pixels = torch.randn(2, 3, 28, 28)
    before = tower(pixels)
    torch.nn.init.normal_(tower.cls_token)

    assert before.shape == (2, 4, 8)
    assert (tower(pixels) - before).abs().amax(-1).min() > 0


def test_the_last_block_is_left_out() -> None:
    """A tower of depth 3 computes two blocks: the features are those of the last but one."""
    assert len(Tower(SMALL).blocks) == 2


def test_what_is_stored_and_unread_is_known_by_name_and_shape(micro: Path) -> None:
    """Network plus unread tensors plus SigLIP's attention pool are the reference's file, exactly."""
    config = OpenVLAConfig.from_json(json.loads((micro / "config.json").read_text()))
    with safe_open(micro / "model.safetensors", framework="pt") as file:
        stored = {name: tuple(file.get_slice(name).get_shape()) for name in file.keys()}  # noqa: SIM118 (no mapping)
    network = {name: tuple(tensor.shape) for name, tensor in OpenVLANetwork(config).state_dict().items()}
    towers = zip(("featurizer", "fused_featurizer"), config.towers, strict=True)
    unread = {
        f"vision_backbone.{tower}.{name}": shape
        for tower, sizes in towers
        for name, shape in unused_tensors(sizes).items()
    }
    pool = {name for name in stored if ".attn_pool." in name}

    assert pool
    assert not network.keys() & unread.keys()
    assert network | unread == {name: shape for name, shape in stored.items() if name not in pool}
