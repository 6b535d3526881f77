"""Sizes of a pi0 or pi0.5 network, by the shapes of its tensors alone: names of variants say less.

Knows our names of tensors and their shapes; no number of a tensor. Both decoders share the width of a head, and keys.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass

from stillframe.errors import CheckpointError
from stillframe.files.kinds import shown
from stillframe.models.checkpoint import CheckpointFolder
from stillframe.models.pi0.gemma import GemmaConfig
from stillframe.models.pi0.siglip import SiglipConfig

MOST_POSITIONS = 4096  # of a prefix and a chunk: angles are a table that is made at load
VISION_HEAD = 72  # width of one of the tower's heads, which no tensor shows
BLOCK, LAYER, EXPERT_LAYER = (
    re.compile(rf"{part}\.(\d+)\.") for part in (r"vision\.blocks", r"decoder\.model\.layers", r"expert\.layers")
)
ADAPTIVE = "time_mlp_in.weight"  # of pi0.5 alone
EMBEDDING, POSITIONS, PATCHES = (
    "decoder.model.embed_tokens.weight",
    "vision.pos_embed",
    "vision.patch_embed.proj.weight",
)
ACTION_IN, VISION_FC = "action_in_proj.weight", "vision.blocks.0.mlp.fc1.weight"


@dataclass(frozen=True)
class Pi0Sizes:
    """Of all four parts."""

    vision: SiglipConfig
    decoder: GemmaConfig
    expert: GemmaConfig
    action_dim: int  # numbers of an action as the network has them, the padding included
    adaptive: bool  # pi0.5

    @classmethod
    def of(cls, folder: CheckpointFolder) -> Pi0Sizes:
        """Raises CheckpointError for a part that is missing, or does not fit the others."""
        shapes = {name: stored.shape for name, (_, stored) in folder.stored.items()}
        decoder, expert = _gemma(shapes, "decoder.model", LAYER), _gemma(shapes, "expert", EXPERT_LAYER)
        _check_shared(decoder, expert)
        action_dim, width = _shape(shapes, ACTION_IN, 2)[1], _shape(shapes, ACTION_IN, 2)[0]
        if width != expert.hidden_size:
            raise CheckpointError(
                f"{ACTION_IN} makes rows of {width} numbers, the action expert's have {expert.hidden_size}; check that "
                "the tensors are of one checkpoint"
            )
        return cls(_siglip(shapes), decoder, expert, action_dim, ADAPTIVE in shapes)


Shapes = Mapping[str, tuple[int, ...]]


def _siglip(shapes: Shapes) -> SiglipConfig:
    patches, width = _shape(shapes, POSITIONS, 2)
    grid, patch_px = math.isqrt(patches), _shape(shapes, PATCHES, 4)[-1]
    if grid**2 != patches or width % VISION_HEAD:
        raise CheckpointError(
            f"the vision tower has {patches} positions of {width} numbers; expected a square of positions, and a "
            f"multiple of {VISION_HEAD} numbers, a head's"
        )
    mlp_dim = _shape(shapes, VISION_FC, 2)[0]
    return SiglipConfig(width, _count(shapes, BLOCK), width // VISION_HEAD, mlp_dim, grid, patch_px)


def _gemma(shapes: Shapes, part: str, layer: re.Pattern[str]) -> GemmaConfig:
    """One key-value head, as every PaliGemma has."""
    q_rows, width = _shape(shapes, f"{part}.layers.0.self_attn.q_proj.weight", 2)
    head = _shape(shapes, f"{part}.layers.0.self_attn.k_proj.weight", 2)[0]
    if q_rows % head or head % 2:
        raise CheckpointError(
            f"{part}: queries have {q_rows} numbers and keys {head}; expected an even number for keys that divides the "
            "queries'"
        )
    return GemmaConfig(
        vocab_size=_shape(shapes, EMBEDDING, 2)[0] if part.startswith("decoder") else 0,
        hidden_size=width,
        intermediate_size=_shape(shapes, f"{part}.layers.0.mlp.gate_proj.weight", 2)[0],
        num_hidden_layers=_count(shapes, layer),
        num_attention_heads=q_rows // head,
        num_key_value_heads=1,
        max_position_embeddings=MOST_POSITIONS,
        head_width=head,
    )


def _check_shared(decoder: GemmaConfig, expert: GemmaConfig) -> None:
    """The expert attends, layer by layer, to the prefix's keys."""
    for what in ("num_hidden_layers", "num_attention_heads", "head_width"):
        one, other = getattr(decoder, what), getattr(expert, what)
        if one != other:
            raise CheckpointError(
                f"{what} is {one} in the prefix's decoder and {other} in the action expert; expected the same, for the "
                "expert attends to the prefix layer by layer: check that the tensors are of one checkpoint"
            )


def _shape(shapes: Shapes, name: str, sides: int) -> tuple[int, ...]:
    found = shapes.get(name)
    if found is None:
        raise CheckpointError(f"there is no tensor {name}, of {_part(name)}; expected a whole pi0 or pi0.5 checkpoint")
    if len(found) != sides or 0 in found:
        raise CheckpointError(f"tensor {shown(name)} has shape {found}; expected {sides} sides")
    return found


def _part(name: str) -> str:
    """What a tensor belongs to, in words."""
    parts = {"vision": "the vision tower", "decoder": "the prefix's decoder", "expert": "the action expert"}
    return parts.get(name.partition(".")[0], "the action's projections")


def _count(shapes: Shapes, layer: re.Pattern[str]) -> int:
    return len({found[1] for name in shapes if (found := layer.match(name))})
