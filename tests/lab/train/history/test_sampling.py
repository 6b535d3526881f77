from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from stillframe_lab.train.history.recipe import REMEMBER_SMALL, MemoryRecipe
from stillframe_lab.train.history.sampling import NOTHING, LampMeaning, SampledMemories, sample_memories

COLOUR = np.array([NOTHING] * 8 + [0, 0, 1, 1, 2, 2] + [NOTHING] * 2)  # the last two are decoys
MEANING = LampMeaning(COLOUR, np.arange(16) >= 14)
RECIPE = replace(REMEMBER_SMALL, without=0.0)


def drawn(recipe: MemoryRecipe, seed: int, *, late: bool = False, ordered: bool = False) -> SampledMemories:
    """Memories of eight pictures."""
    return sample_memories(MEANING, np.full(8, late), recipe, np.random.default_rng(seed), ordered=ordered)


def told(made: SampledMemories, picture: int, branch: int) -> list[int]:
    """The colours that a memory tells, each once, in their order."""
    frames = made.memories.frames[picture, branch]
    colours = np.atleast_1d(COLOUR[frames[frames >= 0].numpy()])
    shown = [int(colour) for colour in colours if colour != NOTHING]
    return [colour for at, colour in enumerate(shown) if at == 0 or shown[at - 1] != colour]


def test_a_memory_tells_its_target_and_no_other() -> None:
    """One cue: the branch's colour, in some frames in a row, and idle frames behind them."""
    made = drawn(RECIPE, seed=1)

    assert made.cues == 1
    for picture in range(8):
        for branch in range(3):
            assert told(made, picture, branch) == [branch] == [int(made.target[picture, branch])]
            assert made.told[picture, branch].tolist() == [branch, NOTHING]
            frames = made.memories.frames[picture, branch]
            assert COLOUR[frames[frames >= 0][-1]] == NOTHING


@pytest.mark.parametrize("late", [False, True])
def test_of_two_cues_the_one_that_is_due_is_the_target(late: bool) -> None:  # noqa: FBT001 (a parameter of the test)
    """The first, until its cube has been reached; then the second."""
    made = drawn(RECIPE, seed=2, late=late, ordered=True)

    assert made.cues == 2
    for picture in range(8):
        for branch in range(3):
            cues = told(made, picture, branch)
            assert made.told[picture, branch].tolist() == cues
            assert cues[1 if late else 0] == int(made.target[picture, branch])


def test_some_memories_tell_nothing() -> None:
    """So that nothing is a memory too; what is lit and not meant may be in any."""
    made = drawn(replace(RECIPE, without=1.0), seed=3)

    assert all(told(made, picture, branch) == [] for picture in range(8) for branch in range(3))
    assert (drawn(RECIPE, seed=4).memories.frames >= 14).any()


def test_a_seed_repeats() -> None:
    """The same batch gives the same memories."""
    assert drawn(RECIPE, seed=5).memories.frames.equal(drawn(RECIPE, seed=5).memories.frames)
    assert not drawn(RECIPE, seed=5).memories.frames.equal(drawn(RECIPE, seed=6).memories.frames)
