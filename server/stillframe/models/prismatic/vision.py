"""The two vision towers of a Prismatic VLM, DINOv2 with registers and SigLIP, and the projector behind them.

Knows pixels and patches; no text and no action. Names are those of timm's tensors, as checkpoints store them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional

from stillframe.models.llama.attention import attend
from stillframe.models.side_by_side import RunJobs, in_turn

LAYER_NORM_EPS = 1e-6
Mix = Callable[[Tensor, Tensor, Tensor], Tensor]  # queries, keys and values [..., heads, rows, head_dim]: see attend


@dataclass(frozen=True)
class TowerConfig:
    """Sizes of one tower. `depth` counts the last block, whose output is not used."""

    embed_dim: int
    depth: int
    num_heads: int
    mlp_ratio: float
    prefix_tokens: int  # class and register tokens ahead of the patches
    layer_scale: bool
    image_px: int = 224
    patch_px: int = 14

    @property
    def grid(self) -> int:
        """Patches along one side."""
        return self.image_px // self.patch_px

    @property
    def mlp_dim(self) -> int:
        """Width of the feed-forward, as timm rounds it."""
        return int(self.embed_dim * self.mlp_ratio)

    def kv_sizes(self, blocks: int) -> tuple[int, ...]:
        """[blocks, 2, heads, tokens, head_dim]: one picture's keys and values in so many blocks."""
        return blocks, 2, self.num_heads, self.prefix_tokens + self.grid**2, self.embed_dim // self.num_heads


# timm model id -> sizes. A checkpoint may override embed_dim, depth and num_heads (`timm_overrides`).
TOWERS = {
    "vit_large_patch14_reg4_dinov2.lvd142m": TowerConfig(1024, 24, 16, 4.0, prefix_tokens=5, layer_scale=True),
    "vit_so400m_patch14_siglip_224": TowerConfig(1152, 27, 16, 3.7362, prefix_tokens=0, layer_scale=False),
}


class PatchEmbed(nn.Module):
    """Cut an image into patches and project each."""

    def __init__(self, config: TowerConfig):
        super().__init__()
        self.proj = nn.Conv2d(3, config.embed_dim, kernel_size=config.patch_px, stride=config.patch_px)

    def forward(self, pixels: Tensor) -> Tensor:
        """[batch, 3, H, W] -> [batch, patches, dim], raster order."""
        out: Tensor = self.proj(pixels).flatten(2).transpose(1, 2)
        return out

    def of_patches(self, patches: Tensor) -> Tensor:
        """Patches that are cut already, [n, 3, px, px] -> [n, dim]."""
        return functional.linear(patches.flatten(1), self.proj.weight.flatten(1), self.proj.bias)


class TowerAttention(nn.Module):
    """Full self-attention with fused query, key, value."""

    def __init__(self, config: TowerConfig):
        super().__init__()
        self.num_heads = config.num_heads
        self.qkv = nn.Linear(config.embed_dim, 3 * config.embed_dim)
        self.proj = nn.Linear(config.embed_dim, config.embed_dim)

    def forward(self, tokens: Tensor, mix: Mix = attend) -> Tensor:
        """[batch, tokens, dim] -> the same. `mix` may attend to other tokens than these as well."""
        qkv = self.qkv(tokens).unflatten(-1, (3, self.num_heads, -1)).permute(2, 0, 3, 1, 4)
        mixed = mix(qkv[0], qkv[1], qkv[2])
        out: Tensor = self.proj(mixed.transpose(1, 2).flatten(2))
        return out


class TowerMLP(nn.Module):
    """Two linear layers with the exact (erf) GELU between them, in both towers."""

    def __init__(self, config: TowerConfig):
        super().__init__()
        self.fc1 = nn.Linear(config.embed_dim, config.mlp_dim)
        self.fc2 = nn.Linear(config.mlp_dim, config.embed_dim)

    def forward(self, tokens: Tensor) -> Tensor:
        """[batch, tokens, dim] -> the same."""
        out: Tensor = self.fc2(functional.gelu(self.fc1(tokens)))
        return out


class LayerScale(nn.Module):
    """A learned factor per channel. The name dodges loaders that rewrite names containing `gamma`."""

    def __init__(self, dim: int):
        super().__init__()
        self.scale_factor = nn.Parameter(torch.ones(dim))

    def forward(self, tokens: Tensor) -> Tensor:
        """[..., dim] -> [..., dim]."""
        return tokens * self.scale_factor


class Block(nn.Module):
    """One pre-norm transformer block, with LayerScale where the tower has it."""

    def __init__(self, config: TowerConfig):
        super().__init__()
        self.norm1 = nn.LayerNorm(config.embed_dim, eps=LAYER_NORM_EPS)
        self.attn = TowerAttention(config)
        self.ls1 = LayerScale(config.embed_dim) if config.layer_scale else nn.Identity()
        self.norm2 = nn.LayerNorm(config.embed_dim, eps=LAYER_NORM_EPS)
        self.mlp = TowerMLP(config)
        self.ls2 = LayerScale(config.embed_dim) if config.layer_scale else nn.Identity()

    def forward(self, tokens: Tensor, mix: Mix = attend) -> Tensor:
        """[batch, tokens, dim] -> the same. `mix`: see TowerAttention."""
        tokens = tokens + self.ls1(self.attn(self.norm1(tokens), mix))
        out: Tensor = tokens + self.ls2(self.mlp(self.norm2(tokens)))
        return out


class Tower(nn.Module):
    """A ViT up to its last block but one: the features that Prismatic reads, un-normed.

    The last block, the final norm and SigLIP's attention pool are in checkpoints but feed nothing, so they are not
    here: `unused_tensors` names them.
    """

    def __init__(self, config: TowerConfig):
        super().__init__()
        self.config = config
        if config.prefix_tokens:
            self.cls_token = nn.Parameter(torch.zeros(1, 1, config.embed_dim))
            self.reg_token = nn.Parameter(torch.zeros(1, config.prefix_tokens - 1, config.embed_dim))
        self.pos_embed = nn.Parameter(torch.zeros(1, config.grid**2, config.embed_dim))
        self.patch_embed = PatchEmbed(config)
        self.blocks = nn.ModuleList(Block(config) for _ in range(config.depth - 1))

    def forward(self, pixels: Tensor) -> Tensor:
        """[batch, 3, H, W] normalised pixels -> [batch, patches, dim]."""
        tokens = self.enter(pixels)
        for block in self.blocks:
            tokens = block(tokens)
        return self.leave(tokens[:, self.config.prefix_tokens :])

    @property
    def prefix_tokens(self) -> int:
        """Class and register tokens, which go first."""
        return self.config.prefix_tokens

    @property
    def kv_sizes(self) -> tuple[int, ...]:
        """See TowerConfig."""
        return self.config.kv_sizes(len(self.blocks))

    @property
    def dtype(self) -> torch.dtype:
        """Of its rows."""
        return self.pos_embed.dtype

    def enter(self, pixels: Tensor) -> Tensor:
        """[batch, 3, H, W] -> what the first block takes, [batch, tokens, dim]."""
        return self._with_prefix(self.patch_embed(pixels) + self.pos_embed)

    def enter_patches(self, patches: Tensor, at: Tensor) -> Tensor:
        """Of some patches [n, 3, px, px], the `at`th [n] of a picture: what the first block takes, prefix first."""
        return self._with_prefix(self.patch_embed.of_patches(patches)[None] + self.pos_embed[:, at])[0]

    def leave(self, patches: Tensor) -> Tensor:
        """Features [..., dim] of patches as the last block leaves them."""
        return patches

    def _with_prefix(self, patches: Tensor) -> Tensor:
        """Class and register tokens carry no position and go first."""
        if not self.config.prefix_tokens:
            return patches
        prefix = torch.cat((self.cls_token, self.reg_token), dim=1)
        return torch.cat((prefix.expand(len(patches), -1, -1), patches), dim=1)


def unused_tensors(config: TowerConfig) -> dict[str, tuple[int, ...]]:
    """Name -> shape of the tensors that checkpoints store for a tower and never use."""
    dim, mlp = config.embed_dim, config.mlp_dim
    linears = {"attn.qkv": (3 * dim, dim), "attn.proj": (dim, dim), "mlp.fc1": (mlp, dim), "mlp.fc2": (dim, mlp)}
    last = f"blocks.{config.depth - 1}"
    shapes: dict[str, tuple[int, ...]] = {}
    for name, (rows, columns) in linears.items():
        shapes |= {f"{last}.{name}.weight": (rows, columns), f"{last}.{name}.bias": (rows,)}
    for norm in (f"{last}.norm1", f"{last}.norm2", "norm"):
        shapes |= {f"{norm}.weight": (dim,), f"{norm}.bias": (dim,)}
    if config.layer_scale:
        shapes |= {f"{last}.ls1.scale_factor": (dim,), f"{last}.ls2.scale_factor": (dim,)}
    return shapes


class VisionBackbone(nn.Module):
    """Both towers over the same image. `featurizer` is DINOv2, `fused_featurizer` SigLIP."""

    def __init__(self, dino: TowerConfig, siglip: TowerConfig):
        super().__init__()
        self.featurizer = Tower(dino)
        self.fused_featurizer = Tower(siglip)
        self.run: RunJobs = in_turn  # both

    def forward(self, pixels: Tensor) -> Tensor:
        """[batch, 6, H, W], DINO's three channels first -> [batch, patches, dino dim + siglip dim]."""
        dino, siglip = torch.split(pixels, 3, dim=1)
        return torch.cat(self.run([partial(self.featurizer, dino), partial(self.fused_featurizer, siglip)]), dim=2)


class Projector(nn.Module):
    """From vision features to the decoder's width, through four times the vision width."""

    def __init__(self, vision_dim: int, width: int):
        super().__init__()
        self.fc1 = nn.Linear(vision_dim, 4 * vision_dim)
        self.fc2 = nn.Linear(4 * vision_dim, width)
        self.fc3 = nn.Linear(width, width)

    def forward(self, features: Tensor) -> Tensor:
        """[..., vision_dim] -> [..., width]."""
        out: Tensor = self.fc3(functional.gelu(self.fc2(functional.gelu(self.fc1(features)))))
        return out
