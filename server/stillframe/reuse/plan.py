"""ReusePlan: which rows each decoder layer computes, and which keep the keys and values that they have.

Knows positions and layers; no pixels, no session. A plan is an argument of a pass, never state.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise

import torch
from torch import Tensor


@dataclass(frozen=True)
class ReusePlan:
    """The rows that drop out of one prefill: order[:counts[l]] do not go through layer l; counts never fall.

    In the layer in which a row drops out it writes its keys and values, which takes the row as it enters and nothing
    of the layer's own work; those of the layers that follow are reused. So the first layer's are never stale.
    """

    rows: int  # of the prompt
    order: Tensor  # [n] positions, the most reusable first
    counts: tuple[int, ...]  # per layer
    patches: Tensor  # [up to n] the patch tokens among them, in the same order, as indices into all cameras' patches
    static: Tensor  # bool [patch tokens]: like their reference by the criterion
    relevant: Tensor  # bool [patch tokens]: kept from being reused because the task looks there

    def __post_init__(self) -> None:
        rises = all(earlier <= later for earlier, later in zip((0, *self.counts), self.counts, strict=False))
        if not rises or self.counts[-1] > min(len(self.order), self.rows - 1):
            reusable = f"{len(self.order)} reusable of {self.rows} rows"
            raise ValueError(f"the layers reuse {self.counts} rows; expected counts that never fall, of {reusable}")

    @classmethod
    def whole(cls, rows: int, layers: int, patches: int, device: torch.device) -> ReusePlan:
        """Everything computed: a keyframe."""
        none, nothing = (
            torch.empty(0, dtype=torch.long, device=device),
            torch.zeros(patches, dtype=torch.bool, device=device),
        )
        return cls(rows, none, (0,) * layers, none, nothing, nothing)

    @property
    def reuse_ratio(self) -> float:
        """Token-layers that are not gone through / token-layers of a keyframe."""
        return sum(self.counts) / (len(self.counts) * self.rows)

    @property
    def reused_patches(self) -> Tensor:
        """Patch tokens [n] of which some layer keeps the old keys and values, the most reusable first."""
        return self.patches[: max(0, self.counts[-1] - (len(self.order) - len(self.patches)))]

    @cached_property
    def kept(self) -> Mapping[int, Tensor]:
        """Layer -> indices, into the rows that enter it, of those that go on. Absent: layers that drop none."""
        kept: dict[int, Tensor] = {}
        going = torch.ones(self.rows, dtype=torch.bool, device=self.order.device)
        for layer, (before, count) in enumerate(pairwise((0, *self.counts))):
            if count > before:
                entered = going.clone()
                going[self.order[before:count]] = False
                kept[layer] = going[entered].nonzero()[:, 0]
        return kept
