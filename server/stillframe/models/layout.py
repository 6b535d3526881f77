"""TokenLayout: where everything sits in the decoder's sequence. Knows no family; no offset is written anywhere else."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class TokenLayout:
    """Positions of one prompt's parts: [BOS] [patches of each camera] [text], then the action, causal throughout."""

    patches: Mapping[str, range]  # camera -> its patches' positions, in raster order
    patch_grid: tuple[int, int]  # rows, columns of patches per camera
    text: range
    action: range  # positions that the action's tokens take as they are decoded

    @property
    def prompt_rows(self) -> int:
        """Rows of the prefill."""
        return self.action.start

    @property
    def total_rows(self) -> int:
        """Prompt and action together: what a FrameKV has to hold."""
        return self.action.stop
