"""TokenLayout: where everything sits in the decoder's sequence. Knows no family; no offset is written anywhere else."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate

import torch
from torch import Tensor


@dataclass(frozen=True)
class TokenLayout:
    """Positions of one prompt's parts: [BOS] [patches of each camera] [text], then the action, causal throughout."""

    patches: Mapping[str, range]  # camera -> its patches' positions, in raster order
    patch_grid: tuple[int, int]  # rows, columns of patches per camera
    text: range
    action: range  # positions that the action's tokens take as they are decoded

    @cached_property
    def patch_positions(self) -> Tensor:
        """Positions [patch tokens] of all cameras' patches, in the order of the cameras."""
        return torch.cat([torch.arange(places.start, places.stop) for places in self.patches.values()])

    @property
    def cameras(self) -> list[slice]:
        """Each camera's share of the patch tokens."""
        ends = [*accumulate(len(places) for places in self.patches.values())]
        return [slice(start, stop) for start, stop in zip([0, *ends], ends, strict=False)]

    @property
    def prompt_rows(self) -> int:
        """Rows of the prefill."""
        return self.action.start

    @property
    def total_rows(self) -> int:
        """Prompt and action together: what a FrameKV has to hold."""
        return self.action.stop
