"""TokenLayout: positions of all parts of the decoder's sequence. Knows no family; offsets are defined nowhere else."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from itertools import pairwise


class Mask(StrEnum):
    """Which rows of its sequence a row attends to."""

    CAUSAL = "causal"  # itself and those before it
    BIDIRECTIONAL = "bidirectional"  # all: every key and value depends on every row


@dataclass(frozen=True)
class TokenLayout:
    """Positions of one prompt's parts: [BOS] [patches of each camera] [state] [text], then the action and what ends it.

    A patch token's number is its index among all cameras' patches, which adjoin. Under a causal mask the action's
    tokens are decoded behind the prompt; where every row attends to every other, its rows are among the prompt's.
    """

    patches: Mapping[str, range]  # camera -> its patches' positions, in raster order
    patch_grid: tuple[int, int]  # rows, columns of patches per camera
    text: range
    action: range  # of the action's tokens as they are decoded, or of the rows that hold their place
    state: range = range(0)  # of the robot's state, where the policy reads one
    tail: range = range(0)  # behind the action
    mask: Mask = Mask.CAUSAL

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
        return self.action.start if self.mask is Mask.CAUSAL else self.total_rows

    @property
    def total_rows(self) -> int:
        """Prompt and action together: what a FrameKV has to hold."""
        return self.tail.stop or self.action.stop

    @property
    def answer_rows(self) -> int:
        """How many of the prefill's last rows say the action: from the one that its first number follows."""
        return 1 + self.prompt_rows - self.action.start

    @property
    def saying(self) -> range:
        """The rows of the prefill out of which the action is said: its first number's alone, or each one's.

        A number's row is the one before its place.
        """
        first = self.action.start - 1
        return range(first, self.action.start if self.mask is Mask.CAUSAL else self.action.stop - 1)

    @property
    def places(self) -> range:
        """The action's rows where they are among the prompt's: zeros, that only hold its place."""
        return range(0) if self.mask is Mask.CAUSAL else self.action

    @property
    def looking(self) -> range:
        """The rows whose attention says which patches matter: the text's, and the action's where they are there."""
        return self.text if self.mask is Mask.CAUSAL else range(self.text.start, self.action.stop)
