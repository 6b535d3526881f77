"""Shapes of captured passes, and the assignment of sequences to them.

Knows counts of rows; no tensor. A sequence that is shorter than its shape is padded at the front, so that the rows at
its end, the output rows and those of the text, are always at the same indices.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

# What a pass takes however few its rows are, in rows: the weights are read once. The ratio of a large GPU's arithmetic
# to its memory's speed in bfloat16, rounded; it only decides when two small passes are better than a large one.
ROWS_OF_A_PASS = 256
ALIGNED = 8  # elements: a mask whose rows begin at other multiples is copied by every layer's kernel


@dataclass(frozen=True)
class RowCounts:
    """How many rows of each kind one sequence has."""

    entering: int  # the first layer
    surviving: int  # it
    outputs: int  # of the last layer
    hooked: bool = False  # whether a layer hook sees some

    @property
    def of_a_prompt(self) -> bool:
        """Whether it needs what only a prompt's shape has: dropped rows, rows for hooks."""
        return self.hooked or self.surviving < self.entering


@dataclass(frozen=True)
class GraphShape:
    """The shape of a captured pass: so many sequences, each of at most so many rows."""

    batch: int
    entering: int
    surviving: int
    outputs: int

    @property
    def drops_rows(self) -> bool:
        """Whether rows may be dropped after the first layer. Then each sequence's first row is always padding."""
        return self.surviving < self.entering

    @property
    def cost(self) -> int:
        """What a replay costs, in rows through all layers."""
        return ROWS_OF_A_PASS + self.batch * self.surviving

    @property
    def elements(self) -> int:
        """Rows in all: what its memory is proportional to."""
        return self.batch * (self.entering + self.surviving)

    def holds(self, sequences: int, most: RowCounts) -> bool:
        """Whether so many sequences, none larger than `most`, fit."""
        rows = self.entering - 1 if self.drops_rows else self.entering
        room = sequences <= self.batch and most.entering <= rows and most.surviving <= self.surviving
        return room and most.outputs <= self.outputs and (self.drops_rows or not most.of_a_prompt)


@dataclass(frozen=True)
class GraphBatch:
    """Sequences that are replayed together, by their indices."""

    shape: GraphShape
    sequences: tuple[int, ...]


def capture_shapes(
    capacity: int,
    answer_rows: int,
    batches: Iterable[int],
    rows: Iterable[int],
    most: int,
    *,
    drafted: bool = True,
) -> list[GraphShape]:
    """Shapes for prompts of up to `capacity` positions, and for the draft behind them; the largest first.

    `answer_rows` of a prompt are output: its last and its draft's, or where nothing is `drafted` all that say the
    action. `capacity` is always among the buckets of `rows`; of the `batches` none but the largest exceeds the `most`
    sequences of a pass.
    """
    buckets = sorted({capacity, *(bucket for bucket in rows if answer_rows <= bucket < capacity)})
    sizes, draft = capture_batches(batches, most), answer_rows - 1 if drafted else 0
    prompts = [GraphShape(size, capacity + 1, bucket, answer_rows) for size in sizes for bucket in buckets]
    drafts = [GraphShape(size, draft, draft, draft) for size in sizes] if draft else []
    return sorted((*prompts, *drafts), key=lambda shape: shape.elements, reverse=True)


def capture_batches(batches: Iterable[int], most: int) -> list[int]:
    """Those below `most`, and the least of the others. More sequences than the largest take several passes."""
    ordered = sorted(set(batches))
    return [batch for batch in ordered if batch < most] + [batch for batch in ordered if batch >= most][:1]


def assign_shapes(shapes: Sequence[GraphShape], row_counts: Sequence[RowCounts]) -> list[GraphBatch] | None:
    """Batches of sequences, each with its shape, at the least cost in all; None where one fits no shape.

    Sequences of like length are batched: a keyframe does not lengthen the delta frames beside it.
    """
    order = sorted(range(len(row_counts)), key=lambda index: (row_counts[index].surviving, row_counts[index].entering))
    best: list[tuple[int, tuple[GraphBatch, ...]] | None] = [(0, ())]
    for stop in range(1, len(order) + 1):
        found = None
        for start in range(stop):
            before, members = best[start], order[start:stop]
            shape = None if before is None else _cheapest(shapes, [row_counts[index] for index in members])
            if before is None or shape is None:
                continue
            cost = before[0] + shape.cost
            if found is None or cost < found[0]:
                found = (cost, (*before[1], GraphBatch(shape, tuple(members))))
        best.append(found)
    return None if best[-1] is None else [*best[-1][1]]


def _cheapest(shapes: Sequence[GraphShape], row_counts: Sequence[RowCounts]) -> GraphShape | None:
    entering, surviving, outputs = (
        max(getattr(counts, name) for counts in row_counts) for name in ("entering", "surviving", "outputs")
    )
    most = RowCounts(entering, surviving, outputs, any(counts.of_a_prompt for counts in row_counts))
    fitting = [shape for shape in shapes if shape.holds(len(row_counts), most)]
    return min(fitting, key=lambda shape: (shape.cost, shape.elements), default=None)
