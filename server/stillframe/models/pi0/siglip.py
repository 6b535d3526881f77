"""PaliGemma's vision tower: a SigLIP all of whose layers are read, the final norm too, with the tanh GELU.

Knows pixels and patches; no text. Patches and positions are added in float32, whatever the layers' dtype.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from stillframe.models.llama.attention import attend
from stillframe.models.prismatic.vision import LAYER_NORM_EPS, Mix, PatchEmbed, TowerAttention, TowerConfig


@dataclass(frozen=True)
class SiglipConfig:
    """Sizes. Published: so400m, 1152 x 27 with 16 heads, 224 px in patches of 14."""

    width: int
    depth: int
    heads: int
    mlp_dim: int
    grid: int = 16  # patches along one side
    patch_px: int = 14

    @property
    def image_px(self) -> int:
        """One side of a picture."""
        return self.grid * self.patch_px

    @property
    def tower(self) -> TowerConfig:
        """The same for the parts that it shares with Prismatic's towers."""
        ratio = self.mlp_dim / self.width
        return TowerConfig(
            self.width, self.depth, self.heads, ratio, prefix_tokens=0, layer_scale=False,
            image_px=self.image_px, patch_px=self.patch_px,
        )  # fmt: skip


class SiglipMLP(nn.Module):
    """Two linear layers with the tanh GELU between them."""

    def __init__(self, config: SiglipConfig):
        super().__init__()
        self.fc1 = nn.Linear(config.width, config.mlp_dim)
        self.fc2 = nn.Linear(config.mlp_dim, config.width)

    def forward(self, tokens: Tensor) -> Tensor:
        """[batch, tokens, width] -> the same."""
        out: Tensor = self.fc2(functional.gelu(self.fc1(tokens), approximate="tanh"))
        return out


class SiglipBlock(nn.Module):
    """One pre-norm transformer block."""

    def __init__(self, config: SiglipConfig):
        super().__init__()
        self.norm1 = nn.LayerNorm(config.width, eps=LAYER_NORM_EPS)
        self.attn = TowerAttention(config.tower)
        self.norm2 = nn.LayerNorm(config.width, eps=LAYER_NORM_EPS)
        self.mlp = SiglipMLP(config)

    def forward(self, tokens: Tensor, mix: Mix = attend) -> Tensor:
        """[batch, tokens, width] -> the same. `mix`: see TowerAttention."""
        tokens = tokens + self.attn(self.norm1(tokens), mix)
        out: Tensor = tokens + self.mlp(self.norm2(tokens))
        return out


class SiglipTower(nn.Module):
    """All layers and the norm behind them."""

    prefix_tokens = 0

    def __init__(self, config: SiglipConfig):
        super().__init__()
        self.config = config
        self.patch_embed = PatchEmbed(config.tower)
        self.pos_embed = nn.Parameter(torch.zeros(config.grid**2, config.width))
        self.blocks = nn.ModuleList(SiglipBlock(config) for _ in range(config.depth))
        self.norm = nn.LayerNorm(config.width, eps=LAYER_NORM_EPS)

    def forward(self, pixels: Tensor) -> Tensor:
        """[batch, 3, H, W] in -1..1, float32 -> [batch, patches, width] in the layers' dtype."""
        tokens = self.enter(pixels)
        for block in self.blocks:
            tokens = block(tokens)
        return self.leave(tokens)

    @property
    def kv_sizes(self) -> tuple[int, ...]:
        """[blocks, 2, heads, patches, head_dim]: one picture's keys and values."""
        return self.config.tower.kv_sizes(len(self.blocks))

    @property
    def dtype(self) -> torch.dtype:
        """Of its rows."""
        return self.norm.weight.dtype

    def enter(self, pixels: Tensor) -> Tensor:
        """[batch, 3, H, W] -> what the first block takes, [batch, patches, width]."""
        tokens: Tensor = self.patch_embed(pixels) + self.pos_embed
        return tokens.to(self.dtype)

    def enter_patches(self, patches: Tensor, at: Tensor) -> Tensor:
        """Of some patches [n, 3, px, px], the `at`th [n] of a picture: what the first block takes, [n, width]."""
        return (self.patch_embed.of_patches(patches) + self.pos_embed[at]).to(self.dtype)

    def leave(self, patches: Tensor) -> Tensor:
        """Features [..., width] of patches as the last block leaves them."""
        out: Tensor = self.norm(patches)
        return out
