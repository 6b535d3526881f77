"""Draft: a proposal for every token of an action, verified by the passes that it is fed to.

Knows token ids; not where a proposal comes from, and not what a token means.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from stillframe.domain import DraftMode
from stillframe.errors import Internal

Ids = NDArray[np.int64]


@dataclass(frozen=True)
class Draft:
    """A proposal for every token of an action, and how it is to be verified."""

    ids: Ids  # [tokens], each in the vocabulary
    mode: DraftMode = "exact"
    radius: Ids | None = None  # relaxed: [tokens] how far from the likeliest id a draft token is still accepted
    way: str = "still"  # how it was proposed
    actions: range | None = None  # the ids that are actions: no other draft token replaces the likeliest; None: all are
    faults: list[Internal] = field(default_factory=list, compare=False, repr=False)  # what passes over it found wrong

    def among(self, actions: range | None) -> Draft:
        """The same for the next pass, clipped to the ids that are actions."""
        ids = self.ids if actions is None else np.clip(self.ids, actions.start, actions.stop - 1)
        return replace(self, ids=ids, actions=actions, faults=[])

    @property
    def input_ids(self) -> Tensor:
        """The tokens that get rows in a pass [tokens - 1]: nothing follows the last."""
        return torch.from_numpy(self.ids[:-1])
