"""When which lamp shows what in an episode of `remember`: one flash after another, then nothing until the arm is free.

Counts control steps; knows no metres and no picture.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from stillframe_client.sim.state import COLOURS

CUE_STEPS, GAP_STEPS = 6, 4  # in steps, not seconds: what a memory holds are frames
DELAY_STEPS = 16


@dataclass(frozen=True)
class Variant:
    """What there is to remember."""

    cues: int  # colours, in the order in which they are shown
    decoys: bool = False  # the other colours flash too, unmarked, at any of several lamps

    @property
    def lamps(self) -> int:
        """How many stand on the table."""
        return len(COLOURS) if self.decoys else 1


VARIANTS = {
    "simple": Variant(cues=1),
    "ordered": Variant(cues=2),
    "distractor": Variant(cues=1, decoys=True),
    "ordered-distractor": Variant(cues=2, decoys=True),
}
SIMPLE = "simple"


@dataclass(frozen=True)
class Cueing:
    """How episodes cue: what there is to remember, and for how long."""

    variant: Variant
    delay: int  # steps from the last flash to a free arm

    @classmethod
    def of(cls, variant: str | None, delay: int | None) -> Cueing:
        """By name; None: simple, 16 steps. Raises ValueError for an unknown variant or a negative delay."""
        name, steps = variant or SIMPLE, DELAY_STEPS if delay is None else delay
        if name not in VARIANTS:
            raise ValueError(f"unknown variant {name!r}; expected one of {', '.join(VARIANTS)}")
        if steps < 0:
            raise ValueError(f"delay is {steps}; expected at least 0 steps")
        return cls(VARIANTS[name], steps)


@dataclass(frozen=True)
class Flash:
    """One lamp in one colour. It is meant only if the marker beside it is lit."""

    lamp: int
    colour: str
    marked: bool


@dataclass(frozen=True)
class Schedule:
    """One episode's flashes, and how long the arm stays frozen after the last of them."""

    flashes: tuple[Flash, ...] = ()
    delay: int = 0

    @classmethod
    def drawn(cls, rng: np.random.Generator, cueing: Cueing, meant: Sequence[str]) -> Schedule:
        """Show the colours that are `meant` in their order, with decoys before, between or after them."""
        decoys = [colour for colour in COLOURS if colour not in meant] if cueing.variant.decoys else []
        rng.shuffle(decoys)
        marks = [True] * len(meant) + [False] * len(decoys)
        rng.shuffle(marks)
        colours = {True: iter(meant), False: iter(decoys)}
        flashes = [Flash(int(rng.integers(cueing.variant.lamps)), next(colours[mark]), mark) for mark in marks]
        return cls(tuple(flashes), cueing.delay)

    @property
    def frozen_steps(self) -> int:
        """After so many steps the arm is free."""
        return max(0, len(self.flashes) * (CUE_STEPS + GAP_STEPS) - GAP_STEPS) + self.delay

    def at(self, step: int) -> Flash | None:
        """What is to be seen after `step` steps."""
        index, since = divmod(step, CUE_STEPS + GAP_STEPS)
        return self.flashes[index] if index < len(self.flashes) and since < CUE_STEPS else None
