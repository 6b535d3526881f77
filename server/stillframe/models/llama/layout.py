"""TokenLayout: positions of all parts of the decoder's sequence. Knows no family; offsets are defined nowhere else."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise


@dataclass(frozen=True)
class TokenLayout:
    """Positions of one prompt's parts: [BOS] [patches of each camera] [text], then the action, causal throughout.

    A patch token's number is its index among all cameras' patches, which adjoin.
    """

    patches: Mapping[str, range]  # camera -> its patches' positions, in raster order
    patch_grid: tuple[int, int]  # rows, columns of patches per camera
    text: range
    action: range  # of the action's tokens as they are decoded

    def __post_init__(self) -> None:
        places = [*self.patches.values()]
        if any(before.stop != after.start for before, after in pairwise(places)):
            raise ValueError(f"the cameras' patches are at {places}; expected them to adjoin")

    @property
    def patch_positions(self) -> range:
        """Positions of all patch tokens, in the order of their numbers."""
        places = [*self.patches.values()]
        return range(places[0].start, places[-1].stop) if places else range(0)

    @property
    def cameras(self) -> list[slice]:
        """Each camera's share of the patch tokens' numbers."""
        first = self.patch_positions.start
        return [slice(places.start - first, places.stop - first) for places in self.patches.values()]

    @property
    def prompt_rows(self) -> int:
        """Rows of the prefill."""
        return self.action.start

    @property
    def total_rows(self) -> int:
        """Prompt and action together: what a FrameKV has to hold."""
        return self.action.stop
