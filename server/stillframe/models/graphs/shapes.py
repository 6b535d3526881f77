"""Forms of passes: the few shapes that are recorded, and which of them some strands are put into.

Knows counts of rows; no tensor. A strand that is shorter than its form is padded at the front, so that what is asked
for from its end, the rows that are read and those of the text, lies where it always lies.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

# What a pass takes however few its rows are, in rows: the weights are read once. The ratio of a large GPU's arithmetic
# to its memory's speed in bfloat16, rounded; it only decides when two small passes are better than a large one.
ROWS_OF_A_PASS = 256
ALIGNED = 8  # elements: a mask whose rows begin at other multiples is copied by every layer's kernel


@dataclass(frozen=True)
class Extent:
    """How much of each kind of row one strand has."""

    entering: int  # the first layer
    going: int  # on after it
    reading: int  # out of the last
    heard: bool = False  # whether a tap listens

    @property
    def of_a_prompt(self) -> bool:
        """Whether it needs what only a prompt's form has: rows that leave, rows that are heard."""
        return self.heard or self.going < self.entering


@dataclass(frozen=True)
class Form:
    """The shape of a recorded pass: so many strands, each with room for so many rows."""

    batch: int
    entering: int
    going: int
    reading: int

    @property
    def thins(self) -> bool:
        """Whether rows may leave it after the first layer. Then each strand's first row is padding always."""
        return self.going < self.entering

    @property
    def cost(self) -> int:
        """What replaying it takes, in rows through all layers."""
        return ROWS_OF_A_PASS + self.batch * self.going

    @property
    def elements(self) -> int:
        """Of all rows that enter it: what its memory goes by."""
        return self.batch * (self.entering + self.going)

    def holds(self, strands: int, most: Extent) -> bool:
        """Whether so many strands, none larger than `most`, have room."""
        rows = self.entering - 1 if self.thins else self.entering
        room = strands <= self.batch and most.entering <= rows and most.going <= self.going
        return room and most.reading <= self.reading and (self.thins or not most.of_a_prompt)


@dataclass(frozen=True)
class Group:
    """Strands that are replayed together."""

    form: Form
    strands: tuple[int, ...]


def recorded(capacity: int, answer_rows: int, batches: Iterable[int], rows: Iterable[int], most: int) -> list[Form]:
    """Forms for prompts that fill up to `capacity` positions, and for the guesses behind them; the largest first.

    `answer_rows` of a prompt are read: its last and its guesses'. A whole slot is always among the buckets of `rows`;
    of the `batches` none but the largest is more than the `most` strands that come together.
    """
    buckets = sorted({capacity, *(bucket for bucket in rows if answer_rows <= bucket < capacity)})
    prompts = [Form(batch, capacity + 1, bucket, answer_rows) for batch in needed(batches, most) for bucket in buckets]
    guesses = answer_rows - 1
    slots = [Form(batch, guesses, guesses, guesses) for batch in needed(batches, most)] if guesses else []
    return sorted((*prompts, *slots), key=lambda form: form.elements, reverse=True)


def needed(batches: Iterable[int], most: int) -> list[int]:
    """Those below `most`, and the least of the others. What is beyond the largest takes several passes."""
    ordered = sorted(set(batches))
    return [batch for batch in ordered if batch < most] + [batch for batch in ordered if batch >= most][:1]


def grouped(forms: Sequence[Form], extents: Sequence[Extent]) -> list[Group] | None:
    """Strands in groups, each with the form that it is put into, so that it takes least; None where one fits no form.

    A frame that is computed whole does not make those beside it as long as it is: alike go with alike.
    """
    order = sorted(range(len(extents)), key=lambda strand: (extents[strand].going, extents[strand].entering))
    best: list[tuple[int, tuple[Group, ...]] | None] = [(0, ())]
    for stop in range(1, len(order) + 1):
        found = None
        for start in range(stop):
            before, members = best[start], order[start:stop]
            form = None if before is None else _cheapest(forms, [extents[strand] for strand in members])
            if before is None or form is None:
                continue
            cost = before[0] + form.cost
            if found is None or cost < found[0]:
                found = (cost, (*before[1], Group(form, tuple(members))))
        best.append(found)
    return None if best[-1] is None else [*best[-1][1]]


def _cheapest(forms: Sequence[Form], extents: Sequence[Extent]) -> Form | None:
    entering, going, reading = (
        max(getattr(extent, name) for extent in extents) for name in ("entering", "going", "reading")
    )
    most = Extent(entering, going, reading, any(extent.of_a_prompt for extent in extents))
    fitting = [form for form in forms if form.holds(len(extents), most)]
    return min(fitting, key=lambda form: (form.cost, form.elements), default=None)
