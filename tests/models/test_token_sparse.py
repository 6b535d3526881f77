from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from stillframe.models.pi0.siglip import SiglipConfig, SiglipTower
from stillframe.models.prismatic.vision import Projector, Tower, TowerConfig, VisionBackbone
from stillframe.models.side_by_side import in_turn, side_by_side
from stillframe.models.token_sparse import ChangedPicture, PictureKV, TokenSparseVision

GRID, PX = 4, 3
PATCHES, SIDE = GRID**2, GRID * PX
DINO = TowerConfig(16, 4, 2, 2.0, prefix_tokens=3, layer_scale=True, image_px=SIDE, patch_px=PX)
SIGLIP = TowerConfig(24, 3, 3, 1.5, prefix_tokens=0, layer_scale=False, image_px=SIDE, patch_px=PX)
PALIGEMMA = SiglipConfig(width=16, depth=3, heads=2, mlp_dim=24, grid=GRID, patch_px=PX)
patches = st.sets(st.integers(0, PATCHES - 1), min_size=1).map(lambda some: np.array(sorted(some)))


def drawn(module: nn.Module) -> nn.Module:
    """The same with weights that make every row depend on every other."""
    draw = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for weight in module.parameters():
            weight.copy_(torch.randn(weight.shape, generator=draw) * (0.4 if weight.dim() > 1 else 0.2))
    return module.eval().requires_grad_(requires_grad=False)


@dataclass(frozen=True)
class Bench:
    """An encoder, whole and token by token."""

    encode: nn.Module
    sparse: TokenSparseVision
    towers: Sequence[nn.Module]

    def picture(self, seed: int) -> Tensor:
        """[channels, H, W]."""
        shape = (3 * len(self.towers), SIDE, SIDE)
        return torch.randn(shape, generator=torch.Generator().manual_seed(seed))

    def kept(self, picture: Tensor) -> PictureKV:
        """Of a picture that is seen whole."""
        return self.sparse.whole([picture])[1][0]


def prismatic() -> Bench:
    """DINOv2 and SigLIP as a Prismatic VLM has them."""
    backbone = VisionBackbone(DINO, SIGLIP)
    encode = drawn(nn.Sequential(backbone, Projector(DINO.embed_dim + SIGLIP.embed_dim, 8)))
    towers = (backbone.featurizer, backbone.fused_featurizer)
    return Bench(encode, TokenSparseVision(towers, encode[1]), towers)


def paligemma() -> Bench:
    """pi0's: one tower, all of whose blocks are read, and the norm behind them."""
    encode = drawn(nn.Sequential(SiglipTower(PALIGEMMA), nn.Linear(PALIGEMMA.width, 8)))
    return Bench(encode, TokenSparseVision([encode[0]], encode[1]), [encode[0]])


BENCHES = {"prismatic": prismatic(), "paligemma": paligemma()}
every = pytest.mark.parametrize("bench", BENCHES.values(), ids=BENCHES)


@every
def test_a_whole_pass_is_the_encoders(bench: Bench) -> None:
    """To the bit: what is kept beside it changes nothing."""
    pictures = [bench.picture(1), bench.picture(2)]

    assert torch.equal(bench.sparse.whole(pictures)[0], bench.encode(torch.stack(pictures)))


@every
@settings(deadline=None)
@given(was=st.integers(0, 9), now=st.integers(10, 19))
def test_all_patches_changed_is_a_whole_pass(bench: Bench, was: int, now: int) -> None:
    """Up to rounding: nothing is left of the picture before."""
    kv, picture = bench.kept(bench.picture(was)), bench.picture(now)
    (rows,) = bench.sparse.changed([ChangedPicture(picture, np.arange(PATCHES), kv)])

    assert torch.allclose(rows, bench.encode(picture[None])[0], atol=1e-4)
    fresh = bench.kept(picture)
    assert all(torch.allclose(one, other, atol=1e-4) for one, other in zip(kv.towers, fresh.towers, strict=True))


@every
@settings(deadline=None)
@given(at=patches, seed=st.integers(0, 9))
def test_the_same_picture_again_is_what_it_was(bench: Bench, at: np.ndarray, seed: int) -> None:
    """Whichever patches are computed: their rows, keys and values come out as they were."""
    picture = bench.picture(seed)
    kv, fresh = bench.kept(picture), bench.kept(picture)
    (rows,) = bench.sparse.changed([ChangedPicture(picture, at, kv)])

    assert torch.allclose(rows, bench.encode(picture[None])[0][at], atol=1e-4)
    assert all(torch.allclose(one, other, atol=1e-4) for one, other in zip(kv.towers, fresh.towers, strict=True))


@every
@settings(deadline=None)
@given(at=patches)
def test_rows_are_those_of_a_plain_pass(bench: Bench, at: np.ndarray) -> None:
    """Against the same written plainly: row by row and head by head, over whichever keys and values there are."""
    picture, kv = bench.picture(20), bench.kept(bench.picture(3))
    plain = [plain_features(tower, number, picture, at, kv) for number, tower in enumerate(bench.towers)]
    (rows,) = bench.sparse.changed([ChangedPicture(picture, at, kv)])

    assert torch.allclose(rows, bench.encode[1](torch.cat(plain, dim=-1)), atol=1e-4)


def plain_features(tower: nn.Module, number: int, picture: Tensor, at: np.ndarray, kv: PictureKV) -> Tensor:
    """Features [n, dim] of one tower. `kv` is only read."""
    prefix, kept = tower.prefix_tokens, kv.towers[number].clone()
    entered = tower.enter(picture[None, 3 * number : 3 * number + 3])[0]
    positions = [*range(prefix), *(int(patch) + prefix for patch in at)]
    rows = {position: entered[position] for position in positions}
    for layer, block in enumerate(tower.blocks):
        heads = block.attn.num_heads
        qkv = {at: block.attn.qkv(block.norm1(row)).view(3, heads, -1) for at, row in rows.items()}
        for position, own in qkv.items():
            kept[layer, 0, :, position], kept[layer, 1, :, position] = own[1], own[2]
        for position, own in qkv.items():
            mixed = []
            for head in range(heads):
                keys, values = kept[layer, 0, head], kept[layer, 1, head]
                weights = torch.softmax(keys @ own[0, head] / own.shape[-1] ** 0.5, dim=0)
                mixed.append(weights @ values)
            scale1, scale2 = (getattr(block, name, nn.Identity()) for name in ("ls1", "ls2"))
            row = rows[position] + scale1(block.attn.proj(torch.cat(mixed)))
            rows[position] = row + scale2(block.mlp(block.norm2(row)))
    return tower.leave(torch.stack([rows[position] for position in positions[prefix:]]))


@every
@settings(deadline=None)
@given(at=patches.filter(lambda some: len(some) < PATCHES))
def test_what_is_not_computed_keeps_its_keys_and_values(bench: Bench, at: np.ndarray) -> None:
    """To the bit; those of computed patches and of class and register tokens are of the new picture."""
    kv, was = bench.kept(bench.picture(1)), bench.kept(bench.picture(1))
    bench.sparse.changed([ChangedPicture(bench.picture(2), at, kv)])
    for tower, own, before in zip(bench.towers, kv.towers, was.towers, strict=True):
        computed = np.array([*range(tower.prefix_tokens), *(at + tower.prefix_tokens)])
        rest = np.setdiff1d(np.arange(own.shape[-2]), computed)

        assert torch.equal(own[..., rest, :], before[..., rest, :])
        later = own[1:] != before[1:]  # the first block's prefix is of no picture
        assert later.any(dim=-1)[..., computed].all()


@every
@settings(deadline=None)
@given(one=patches, other=patches)
def test_pictures_side_by_side_are_what_they_are_alone(bench: Bench, one: np.ndarray, other: np.ndarray) -> None:
    """Of as many patches each as there are: rows, keys and values."""
    pictures = [bench.picture(4), bench.picture(5)]
    sets = [[bench.kept(bench.picture(seed)) for seed in (6, 7)] for _ in range(2)]
    wanted = [ChangedPicture(picture, at, kv) for picture, at, kv in zip(pictures, (one, other), sets[0], strict=True)]
    together = bench.sparse.changed(wanted)
    for picture, at, kv, rows, shared in zip(pictures, (one, other), sets[1], together, sets[0], strict=True):
        (alone,) = bench.sparse.changed([ChangedPicture(picture, at, kv)])

        assert torch.allclose(rows, alone, atol=1e-4)
        assert all(torch.allclose(a, b, atol=1e-4) for a, b in zip(kv.towers, shared.towers, strict=True))


@every
def test_what_is_kept_of_a_picture_takes_what_it_says(bench: Bench) -> None:
    """And of two pictures that were seen together, each has its own memory."""
    _, (one, other) = bench.sparse.whole([bench.picture(1), bench.picture(2)])
    kept = one.towers[0].clone()
    bench.sparse.changed([ChangedPicture(bench.picture(3), np.arange(PATCHES), other)])

    assert one.nbytes == bench.sparse.picture_bytes == sum(tower.untyped_storage().nbytes() for tower in one.towers)
    assert torch.equal(one.towers[0], kept)


@torch.inference_mode()
def test_towers_side_by_side_see_and_keep_the_same() -> None:
    """To the bit: patches of whole pictures and of those that changed, and the keys and values of both."""
    bench, made = BENCHES["prismatic"], []
    pictures = [bench.picture(1), bench.picture(2)]
    for run in (in_turn, side_by_side(torch.device("cpu"))):
        sparse = TokenSparseVision(bench.towers, bench.encode[1], run)
        rows, kept = sparse.whole(pictures)
        wanted = [ChangedPicture(bench.picture(3), np.array([0, 5]), kept[0])]
        wanted.append(ChangedPicture(bench.picture(4), np.array([7]), kept[1]))
        made.append([rows, *sparse.changed(wanted), *(tower for own in kept for tower in own.towers)])

    assert all(torch.equal(one, other) for one, other in zip(*made, strict=True))


def test_a_tower_in_another_dtype_than_its_pictures() -> None:
    """Pictures come in float32, whatever the layers' dtype; PaliGemma adds positions in float32 too."""
    backbone = VisionBackbone(DINO, SIGLIP)
    half = drawn(backbone).bfloat16()
    assert isinstance(half.featurizer, Tower)
    sparse = TokenSparseVision([half.featurizer, half.fused_featurizer], nn.Identity())
    picture = BENCHES["prismatic"].picture(1)
    rows, (kv,) = sparse.whole([picture])
    (same,) = sparse.changed([ChangedPicture(picture, np.array([0, 9]), kv)])

    assert kv.towers[0].dtype == same.dtype == torch.bfloat16
    assert torch.allclose(same.float(), rows[0][[0, 9]].float(), atol=0.2)
