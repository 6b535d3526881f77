from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from stillframe.models.graphs.buffers import BufferSizes, SharedBuffers, output_rows, surviving_rows
from stillframe.models.graphs.shapes import GraphShape
from stillframe.models.llama.sequence import SequenceSlice
from stillframe.reuse.kv import FrameKV, KVShape

CPU = torch.device("cpu")
SIZES = BufferSizes(width=3, layers=2, scratch=20, hook_rows=5, dtype=torch.float32, device=CPU)
DRAFT, PROMPT, WIDE = GraphShape(4, 2, 2, 2), GraphShape(2, 9, 6, 3), GraphShape(1, 9, 8, 3)


def sequence(rows: int, first: int = 0, kept: list[int] | None = None, read: int | None = 3) -> SequenceSlice:
    """Rows that say their position."""
    kv = FrameKV(KVShape(2, 1, 2, 20, torch.float32, CPU).allocate())
    said = torch.arange(first, first + rows).float()[:, None].expand(-1, SIZES.width)
    return SequenceSlice(said, first, kv, {} if kept is None else {0: torch.tensor(kept)}, read=read)


@pytest.mark.parametrize("shapes", [[PROMPT, WIDE, DRAFT], [DRAFT, WIDE, PROMPT]])
def test_every_shape_fits_the_shared_memory(shapes: list[GraphShape]) -> None:
    """Whichever comes first: views of one memory, as large as the largest of each kind needs, to the byte."""
    shared = SharedBuffers(SIZES, shapes)

    for shape in shapes:
        made = shared.buffers(shape)
        assert made.rows.shape == (shape.batch, shape.entering, 3)
        assert made.hidden.shape == (shape.batch, shape.outputs, 3)
        assert made.hook_rows.shape == (2, shape.batch, 5, 3)
        assert (made.at.shape, made.slots.shape) == ((shape.batch, shape.entering), (shape.batch,))
        assert made.keep.shape == (shape.batch, shape.surviving)
    rows, hidden, heard, ints = 18 * 3, 8 * 3, 2 * 4 * 5 * 3, 2 * (9 + 1 + 6)
    assert shared.nbytes == 4 * (rows + hidden + heard) + 8 * ints


def test_the_three_kinds_of_numbers_lie_apart() -> None:
    """Positions, slots and what goes on are parts of one tensor, which is copied to the device in one go."""
    made = SharedBuffers(SIZES, [PROMPT]).buffers(PROMPT)
    made.at.fill_(1)
    made.slots.fill_(2)
    made.keep.fill_(3)

    assert made.ints.tolist() == [1] * 18 + [2] * 2 + [3] * 12


def test_sequences_are_aligned_to_the_end() -> None:
    """Rows, positions, slots, and which rows go on, counted among all that enter; the rest is padding."""
    made = SharedBuffers(SIZES, [PROMPT]).buffers(PROMPT)
    made.fill([sequence(8, kept=[0, 3, 6, 7]), sequence(5, first=2)], [7, 4])

    assert made.at.tolist() == [[20, *range(8)], [20] * 4 + [*range(2, 7)]]
    assert made.rows[0, 1:, 0].tolist() == [*range(8)]
    assert made.rows[1, 4:, 0].tolist() == [*range(2, 7)]
    assert made.slots.tolist() == [7, 4]
    assert made.keep.tolist() == [[0, 0, 1, 4, 7, 8], [9, 13, 14, 15, 16, 17]]
    made.fill([sequence(3)], [5])
    assert made.at.tolist() == [[20] * 6 + [0, 1, 2], [20] * 9]
    assert made.slots.tolist() == [5, 0]
    assert made.keep.tolist() == [[0, 0, 0, 6, 7, 8], [9] * 6]


def test_results_are_each_sequences_own() -> None:
    """The last rows that are read, as copies; a hook sees as many as it needs, layer by layer."""
    made = SharedBuffers(SIZES, [PROMPT]).buffers(PROMPT)
    heard: list[tuple[int, list[float]]] = []
    sequences = [
        sequence(8, kept=[5, 6, 7], read=2),
        replace(sequence(5), hook=lambda layer, rows: heard.append((layer, rows[:, 0].tolist())), hook_rows=2),
    ]
    made.hidden.copy_(torch.arange(6.0).view(2, 3, 1).expand(-1, -1, 3))
    made.hook_rows.copy_(torch.arange(20.0).view(2, 2, 5, 1).expand(-1, -1, -1, 3))
    found = made.results(sequences)
    made.hidden.zero_()

    assert [own[:, 0].tolist() for own in found] == [[1, 2], [3, 4, 5]]
    assert heard == [(0, [8, 9]), (1, [18, 19])]


@pytest.mark.parametrize(
    ("made", "goes", "reads"),
    [
        (sequence(8, read=None), 8, 8),
        (sequence(8), 8, 3),
        (sequence(2), 2, 2),
        (sequence(8, kept=[6, 7]), 2, 2),
        (sequence(8, kept=[6, 7], read=None), 2, 2),
        (sequence(8, kept=[3, 5, 6, 7], read=1), 4, 1),
    ],
)
def test_no_more_rows_are_read_than_go_on(made: SequenceSlice, goes: int, reads: int) -> None:
    """A sequence is counted by what its plan keeps, and by what is asked for of that."""
    assert (surviving_rows(made), output_rows(made)) == (goes, reads)
