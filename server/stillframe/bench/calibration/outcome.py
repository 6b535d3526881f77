"""What a set of knobs did over recorded frames: how much it reused, and how far that moved the answers.

Knows figures; not where they come from.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from stillframe.reuse.settings import AdaptiveSettings


@dataclass
class Outcome:
    """What a set of knobs did over all scenes."""

    knobs: AdaptiveSettings
    ratios: list[float] = field(default_factory=list)  # of every frame; 0 for a keyframe
    drifts: list[float] = field(default_factory=list)  # of every delta frame

    @property
    def reuse(self) -> float:
        """Token-layers reused / token-layers of keyframes, over whole episodes."""
        return float(np.mean(self.ratios)) if self.ratios else 0.0

    def drift(self, percent: float) -> float:
        """A percentile of the delta frames' drift; 0 where there was no delta frame."""
        return float(np.percentile(self.drifts, percent)) if self.drifts else 0.0

    def hopeless(self, budget: float, frames: int) -> bool:
        """Whether its drift p90 over `frames` frames is above `budget` whatever comes: too many already were."""
        return sum(drift > budget for drift in self.drifts) > 1 + 0.1 * frames

    def saw(self, ratio: float, drift: float | None) -> None:
        """One more frame; None: a keyframe, which has no drift."""
        self.ratios.append(ratio)
        if drift is not None:
            self.drifts.append(drift)
