"""Diaries: what a policy with all of its history looked at, step by step, and what that makes its frames worth.

Knows summaries and masses; no network and no simulator.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from stillframe.memory.scorers import Summaries, Utilities

RELEVANT = 0.3  # a chunk that is looked at so much, of what is looked at most, says something
REPEATED = 0.5  # each that says the same as earlier ones is worth so much of the one before it


@dataclass
class Diary:
    """A scorer that keeps all, of one session, and writes down what it hears. See `scorers.Scorer`."""

    watches = True
    inputs: list[Tensor] = field(default_factory=list)  # a chunk: [inputs]
    masses: list[Utilities] = field(default_factory=list)  # an answer: [chunks before it]

    def begin(self) -> Tensor:
        """Nothing."""
        return torch.zeros(0)

    def score(self, summaries: Summaries, states: Sequence[Tensor]) -> tuple[Utilities, list[Tensor]]:
        """Keep it."""
        self.inputs += [*summaries.inputs.cpu()]
        return np.ones(len(summaries.keys)), [*states]

    def revised(self, utilities: Utilities, masses: Utilities) -> Utilities:
        """Write it down."""
        self.masses.append(masses)
        return utilities

    def close(self) -> Lived:
        """The episode is over; the next begins on an empty page."""
        lived = Lived(torch.stack(self.inputs), _looked(self.masses, len(self.inputs)))
        self.inputs, self.masses = [], []
        return lived


@dataclass(frozen=True)
class Lived:
    """One episode."""

    inputs: Tensor  # [chunks, inputs]: what a scorer sees of each
    looked: NDArray[np.float64]  # [chunks] of all answers after it, the most that one looked at it; 1: at nothing more

    def __len__(self) -> int:
        return len(self.inputs)


def worth(looked: NDArray[np.float64], says: NDArray[np.int64]) -> NDArray[np.float64]:
    """What each chunk should be called worth [chunks]: as much as is looked at it, and less the more often it was said.

    `says` [chunks] tells what each says. Without this a row of equal cues fills a small memory, and the other cue goes:
    attention looks at all of them alike. No score of a chunk alone can know which is the first.
    """
    labels, said = looked.copy(), dict.fromkeys(says.tolist(), 0)
    for chunk in np.flatnonzero(looked >= RELEVANT):
        what = int(says[chunk])
        labels[chunk] *= REPEATED ** said[what]
        said[what] += 1
    return labels


def _looked(masses: Sequence[Utilities], chunks: int) -> NDArray[np.float64]:
    """The most that any answer looked at each chunk, in units of what that answer looked at most."""
    looked = np.zeros(chunks)
    for mass in masses:
        most = mass.max(initial=0.0)
        if most > 0:
            looked[: len(mass)] = np.maximum(looked[: len(mass)], mass / most)
    return looked
