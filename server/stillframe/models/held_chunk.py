"""HeldChunk: the chunk that a frame's own has to go on with, and how much each step is held to it.

Knows numbers and steps; no network and no session. Source: real-time chunking (RTC), arXiv 2506.07339, and its
reference, Physical-Intelligence/real-time-chunking-kinetix src/model.py.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class GuidanceRule:
    """How hard a chunk is held, by a deployment's settings."""

    most: float = 5.0  # the strongest pull of a step: the paper's beta
    through_network: bool = True  # the pull goes back through the network; False: it is added as it is, for no cost


DEFAULT_RULE = GuidanceRule()


@dataclass(frozen=True)
class SampledChunk:
    """A chunk as its family drew it, before any clip and scale."""

    actions: NDArray[np.float64]  # [horizon, numbers]
    unnorm_key: str
    state: NDArray[np.float64] | None = None  # [numbers] of the robot in its frame, scaled; None: the family reads none


@dataclass(frozen=True)
class HeldChunk:
    """An older chunk, seen from a newer frame: its action `executed` is for that frame's own step."""

    sampled: SampledChunk
    executed: int
    frozen: int  # steps that will be past when the new chunk is taken up
    guided: int  # steps behind these, held less and less
    rule: GuidanceRule = DEFAULT_RULE

    @property
    def due(self) -> NDArray[np.float64]:
        """[frozen + guided, numbers]: what the new chunk's first actions are held to."""
        return self.sampled.actions[self.executed : self.executed + self.frozen + self.guided]

    def with_actions(self, actions: NDArray[np.float64]) -> HeldChunk:
        """The same, of a chunk that reads otherwise from the new frame."""
        return replace(self, sampled=replace(self.sampled, actions=actions))

    @property
    def weights(self) -> NDArray[np.float64]:
        """[frozen + guided]: 1 of a frozen step, then falling to next to nothing.

        With d frozen steps, of e in all, step i's is c (exp(c) - 1) / (exp(1) - 1), where c = (e - i) / (e - d + 1).
        """
        end = self.frozen + self.guided
        share = (end - np.arange(self.frozen, end)) / (self.guided + 1)
        return np.concatenate((np.ones(self.frozen), share * np.expm1(share) / math.expm1(1)))
