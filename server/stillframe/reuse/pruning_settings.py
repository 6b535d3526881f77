"""Settings of the modes that prune: published methods that drop a frame's own patch tokens, to compare reuse with.

Knows no YAML and no torch: plain values, checked when they are made.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from stillframe.settings_fields import RangeChecked, setting


@dataclass(frozen=True)
class FastVSettings(RangeChecked):
    """Mode `fastv`: FastV (arXiv 2403.06764) as published."""

    __pydantic_config__: ClassVar[dict[str, Any]] = {"extra": "forbid", "strict": True}

    layer: int = setting(
        2, "K: so many layers compute all tokens; the attention in the last of them decides", low=1, high=255
    )
    ratio: float = setting(
        0.5, "R: share of the patch tokens that deeper layers neither compute nor see", low=0, high=1
    )


@dataclass(frozen=True)
class SparseVLMSettings(RangeChecked):
    """Mode `sparsevlm`: SparseVLM (arXiv 2410.04417), counts by the attention's rank; see docs/methods.md."""

    __pydantic_config__: ClassVar[dict[str, Any]] = {"extra": "forbid", "strict": True}

    layers: list[int] = setting(
        [2, 6, 15], "layers whose attention decides, counted from 0: deeper ones have fewer tokens", low=0, high=255
    )
    scale: float = setting(13.5, "each keeps scale * rank + bias patch tokens", low=0, high=4096)
    bias: float = setting(0.0, "patch tokens kept beside those by rank: see scale", low=-4096, high=4096)
    recycle: float = setting(
        0.3, "share of the others, most attended first, merged into a tenth as many", low=0, high=1
    )


@dataclass(frozen=True)
class ToMeSettings(RangeChecked):
    """Mode `tome`: token merging (ToMe, arXiv 2210.09461), of a decoder's patch tokens; see docs/methods.md."""

    __pydantic_config__: ClassVar[dict[str, Any]] = {"extra": "forbid", "strict": True}

    layers: list[int] = setting(
        [0], "patch tokens are merged behind so many layers, each time those that are left; 0: before the first",
        low=0, high=255,
    )  # fmt: skip
    ratio: float = setting(
        0.5, "share of the patch tokens left that are merged into others each time; at most half can be",
        low=0, high=0.5,
    )  # fmt: skip
