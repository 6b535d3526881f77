from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from math import erf, sqrt
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from torch import Tensor, nn

from stillframe.models.prismatic.config import PrismaticConfig
from stillframe.models.prismatic.network import PrismaticNetwork
from stillframe.models.prismatic.vision import TOWERS, Projector, Tower, TowerConfig, VisionBackbone, unused_tensors

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
    config = PrismaticConfig.from_json(json.loads((micro / "config.json").read_text()))
    with safe_open(micro / "model.safetensors", framework="pt") as file:
        stored = {name: tuple(file.get_slice(name).get_shape()) for name in file.keys()}  # noqa: SIM118 (no mapping)
    network = {name: tuple(tensor.shape) for name, tensor in PrismaticNetwork(config).state_dict().items()}
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


PLAIN = replace(SMALL, embed_dim=6, num_heads=3, prefix_tokens=0, layer_scale=False)
Weights = Mapping[str, Tensor]


def loud(module: nn.Module, seed: int) -> Weights:
    """Give it random weights under which every part matters; return them in float64."""
    random = torch.Generator().manual_seed(seed)
    for weight in module.requires_grad_(requires_grad=False).parameters():
        weight.copy_(torch.randn(weight.shape, generator=random) * 0.6)
    return {name: weight.double() for name, weight in module.state_dict().items()}


def linear(weights: Weights, name: str, rows: Tensor) -> Tensor:
    """A product and a bias."""
    return rows @ weights[f"{name}.weight"].T + weights[f"{name}.bias"]


def normed(weights: Weights, name: str, rows: Tensor) -> Tensor:
    """Layer norm, eps 1e-6 as timm's towers have it."""
    spread = ((rows - rows.mean(-1, keepdim=True)) ** 2).mean(-1, keepdim=True) + 1e-6
    return (rows - rows.mean(-1, keepdim=True)) / spread.sqrt() * weights[f"{name}.weight"] + weights[f"{name}.bias"]


def gelu(rows: Tensor) -> Tensor:
    """The exact one, number by number."""
    return rows.clone().apply_(lambda x: x * (1 + erf(x / sqrt(2))) / 2)


def by_hand(weights: Weights, config: TowerConfig, picture: Tensor) -> Tensor:
    """What a tower sees in one picture [3, px, px], in float64: patches [patches, dim]."""
    px, side = config.patch_px, config.grid
    cut = [picture[:, y * px : (y + 1) * px, x * px : (x + 1) * px] for y in range(side) for x in range(side)]
    kernel = weights["patch_embed.proj.weight"].flatten(1)
    tokens = torch.stack([kernel @ patch.double().flatten() for patch in cut]) + weights["patch_embed.proj.bias"]
    tokens = tokens + weights["pos_embed"][0]
    if config.prefix_tokens:
        tokens = torch.cat((weights["cls_token"][0], weights["reg_token"][0], tokens))
    for block in range(config.depth - 1):
        own = {name.split(".", 2)[2]: weight for name, weight in weights.items() if name.startswith(f"blocks.{block}.")}
        asked, seen, said = linear(own, "attn.qkv", normed(own, "norm1", tokens)).chunk(3, dim=-1)
        mixed = []
        for head in range(config.num_heads):
            part = slice(head * config.embed_dim // config.num_heads, (head + 1) * config.embed_dim // config.num_heads)
            scores = asked[:, part] @ seen[:, part].T / sqrt(part.stop - part.start)
            mixed.append(torch.softmax(scores, -1) @ said[:, part])
        tokens = tokens + own.get("ls1.scale_factor", 1) * linear(own, "attn.proj", torch.cat(mixed, -1))
        fed = linear(own, "mlp.fc2", gelu(linear(own, "mlp.fc1", normed(own, "norm2", tokens))))
        tokens = tokens + own.get("ls2.scale_factor", 1) * fed
    return tokens[config.prefix_tokens :]


@pytest.mark.parametrize("contrast", [1.0, 2e-4], ids=["lit", "faint"])
@pytest.mark.parametrize("config", [SMALL, PLAIN], ids=["registers", "plain"])
@torch.inference_mode()
def test_a_tower_is_a_pre_norm_transformer(config: TowerConfig, contrast: float) -> None:
    """Attention and an exact GELU, as written down in float64; faint tokens show the norm's epsilon."""
    tower = Tower(config)
    weights = {name: weight.clone() for name, weight in loud(tower, 1).items()}
    for name in ("patch_embed.proj.weight", "patch_embed.proj.bias", "pos_embed", "cls_token", "reg_token"):
        if name in weights:
            weights[name] *= contrast
            tower.get_parameter(name).mul_(contrast)
    pictures = torch.randn(2, 3, 28, 28, generator=torch.Generator().manual_seed(2)) * 0.1
    expected = torch.stack([by_hand(weights, config, picture) for picture in pictures])

    torch.testing.assert_close(tower(pictures).double(), expected, rtol=1e-4, atol=1e-4)


@torch.inference_mode()
def test_each_tower_sees_its_own_channels() -> None:
    """DINOv2 the first three and SigLIP the others, side by side in that order."""
    backbone = VisionBackbone(SMALL, PLAIN)
    weights = loud(backbone, 3)
    pixels = torch.randn(1, 6, 28, 28, generator=torch.Generator().manual_seed(4)) * 0.1
    parts = [("featurizer", SMALL, pixels[0, :3]), ("fused_featurizer", PLAIN, pixels[0, 3:])]
    expected = [
        by_hand({key.partition(".")[2]: w for key, w in weights.items() if key.startswith(name + ".")}, config, own)
        for name, config, own in parts
    ]

    torch.testing.assert_close(backbone(pixels)[0].double(), torch.cat(expected, -1), rtol=1e-4, atol=1e-4)


@torch.inference_mode()
def test_the_projector_has_two_exact_gelus() -> None:
    """Three linear layers, the first four times as wide as what it is given."""
    projector = Projector(5, 7)
    weights = loud(projector, 5)
    features = torch.randn(3, 5, generator=torch.Generator().manual_seed(6)).double()
    inner = gelu(linear(weights, "fc2", gelu(linear(weights, "fc1", features))))

    assert weights["fc1.weight"].shape == (20, 5)
    torch.testing.assert_close(
        projector(features.float()).double(), linear(weights, "fc3", inner), rtol=1e-4, atol=1e-4
    )


def test_published_sizes_are_timms() -> None:
    """Both towers' patches and widths, the feed-forward's cut off as timm does it."""
    dino, siglip = TOWERS.values()

    assert (dino.grid, siglip.grid) == (16, 16)
    assert (dino.mlp_dim, siglip.mlp_dim) == (4096, 4304)
    assert replace(siglip, embed_dim=10, mlp_ratio=3.79).mlp_dim == 37
