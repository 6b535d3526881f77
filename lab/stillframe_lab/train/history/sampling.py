"""Sample histories from one batch: which pictures a branch has seen, and which cube is its target.

Knows what lamps show; no pixels and no network. Histories are of other scenes than the acted picture, so that
only the lamps tell the target.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from stillframe_lab.train.history.attention_masks import Memories
from stillframe_lab.train.history.recipe import MemoryRecipe

COLOURS = 3
NOTHING = COLOURS  # class of a frame without a marked lamp

Ids = NDArray[np.int64]


@dataclass(frozen=True)
class LampMeaning:
    """What the lamps of some pictures show."""

    colour: Ids  # [pictures] of the lit and marked lamp; NOTHING else
    decoy: NDArray[np.bool_]  # [pictures] lit, and not marked


@dataclass(frozen=True)
class SampledMemories:
    """Histories of the acted pictures."""

    memories: Memories
    target: Tensor  # [pictures, branches] the cube to reach now
    told: Tensor  # [pictures, branches, 2] the colours that a memory tells, in their order; NOTHING where there is none
    cues: int  # that the instruction asks for
    late: Tensor  # [pictures, branches] 1 where the first of two cubes has been reached, which white lamps say; else 0


def sample_memories(
    meaning: LampMeaning, second: NDArray[np.bool_], recipe: MemoryRecipe, rng: np.random.Generator, *, ordered: bool
) -> SampledMemories:
    """For each picture that is acted on `branches` memories; `second` [pictures]: its first cube has been reached.

    `ordered`: the instruction asks for two cubes.
    """
    cues = [np.flatnonzero(meaning.colour == colour) for colour in range(COLOURS)]
    idle = np.flatnonzero((meaning.colour == NOTHING) & ~meaning.decoy)
    decoys = np.flatnonzero(meaning.decoy)
    drawer = _MemorySampler(cues, idle, decoys, recipe, rng, ordered)
    made = [[drawer.memory(branch % COLOURS, late=bool(late)) for branch in range(recipe.branches)] for late in second]
    longest = max(1, max(len(memory) for each in made for memory, _ in each))
    branches = range(recipe.branches)
    frames = np.full((len(second), recipe.branches, longest), -1)
    for picture, each in enumerate(made):
        for branch, (memory, _) in enumerate(each):
            frames[picture, branch, : len(memory)] = memory
    target = torch.tensor([[branch % COLOURS for branch in branches]] * len(second))
    told = torch.tensor([[[*told, NOTHING, NOTHING][:2] for _, told in each] for each in made])
    late = torch.from_numpy(second).long()[:, None].expand(-1, recipe.branches)
    return SampledMemories(Memories(torch.from_numpy(frames)), target, told, 2 if ordered else 1, late)


@dataclass(frozen=True)
class _MemorySampler:
    cues: list[Ids]
    idle: Ids
    decoys: Ids
    recipe: MemoryRecipe
    rng: np.random.Generator
    ordered: bool

    def memory(self, target: int, *, late: bool) -> tuple[Ids, list[int]]:
        """The frames, the oldest first, and the colours that they tell."""
        parts, shown = [self._idle(4)] if self.rng.random() < 0.5 else [], self._shown(target, late=late)
        parts += self._decoys()
        for colour in shown:
            parts += [self._cue(colour), self._idle(4), *self._decoys()]
        parts.append(self._some(self.idle, int(self.rng.choice(self.recipe.idle_frames)), exact=True))
        return np.concatenate(parts), shown

    def _shown(self, target: int, *, late: bool) -> list[int]:
        """The colours in the order in which they were shown."""
        if self.rng.random() < self.recipe.without:
            return []
        if not self.ordered:
            return [target]
        other = int(self.rng.choice([colour for colour in range(COLOURS) if colour != target]))
        return [other, target] if late else [target, other]

    def _decoys(self) -> list[Ids]:
        """Now and then what is lit and not meant: before, between and after what is, and where nothing is meant."""
        if self.rng.random() < 0.5:
            return []
        return [self._some(self.decoys, self.recipe.cue_repeats), self._idle(4)]

    def _cue(self, colour: int) -> Ids:
        return self._some(self.cues[colour], self.recipe.cue_repeats)

    def _idle(self, most: int) -> Ids:
        return self._some(self.idle, int(self.rng.integers(most + 1)), exact=True)

    def _some(self, of: Ids, most: int, *, exact: bool = False) -> Ids:
        """With replacement: 1 to `most`, or exactly as many."""
        count = most if exact else int(self.rng.integers(1, most + 1))
        return self.rng.choice(of, count) if len(of) else np.zeros(0, np.int64)
