from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from stillframe.models.graphs.buffers import Shared, Sizes, going, reading
from stillframe.models.graphs.shapes import Form
from stillframe.models.llama.sequence import Strand
from stillframe.reuse.kv import FrameKV, KVShape

CPU = torch.device("cpu")
SIZES = Sizes(width=3, layers=2, scratch=20, listens=5, dtype=torch.float32, device=CPU)
GUESSES, PROMPT, WIDE = Form(4, 2, 2, 2), Form(2, 9, 6, 3), Form(1, 9, 8, 3)


def strand(rows: int, first: int = 0, kept: list[int] | None = None, read: int | None = 3) -> Strand:
    """Rows that say their position."""
    kv = FrameKV(KVShape(2, 1, 2, 20, torch.float32, CPU).allocate())
    said = torch.arange(first, first + rows).float()[:, None].expand(-1, SIZES.width)
    return Strand(said, first, kv, {} if kept is None else {0: torch.tensor(kept)}, read=read)


@pytest.mark.parametrize("forms", [[PROMPT, WIDE, GUESSES], [GUESSES, WIDE, PROMPT]])
def test_every_form_has_room_in_what_all_share(forms: list[Form]) -> None:
    """Whichever comes first: views of one memory, as large as the largest of each kind needs, to the byte."""
    shared = Shared(SIZES, forms)

    for form in forms:
        made = shared.of(form)
        assert made.rows.shape == (form.batch, form.entering, 3)
        assert made.hidden.shape == (form.batch, form.reading, 3)
        assert made.heard.shape == (2, form.batch, 5, 3)
        assert (made.at.shape, made.slots.shape) == ((form.batch, form.entering), (form.batch,))
        assert made.on.shape == (form.batch, form.going)
    rows, hidden, heard, ints = 18 * 3, 8 * 3, 2 * 4 * 5 * 3, 2 * (9 + 1 + 6)
    assert shared.nbytes == 4 * (rows + hidden + heard) + 8 * ints


def test_the_three_kinds_of_numbers_lie_apart() -> None:
    """Positions, slots and what goes on are parts of one tensor, which is copied to the device in one go."""
    made = Shared(SIZES, [PROMPT]).of(PROMPT)
    made.at.fill_(1)
    made.slots.fill_(2)
    made.on.fill_(3)

    assert made.ints.tolist() == [1] * 18 + [2] * 2 + [3] * 12


def test_strands_lie_at_the_end_of_their_room() -> None:
    """Rows, positions, slots, and which rows go on, counted among all that enter; the rest is padding."""
    made = Shared(SIZES, [PROMPT]).of(PROMPT)
    made.fill([strand(8, kept=[0, 3, 6, 7]), strand(5, first=2)], [7, 4])

    assert made.at.tolist() == [[20, *range(8)], [20] * 4 + [*range(2, 7)]]
    assert made.rows[0, 1:, 0].tolist() == [*range(8)]
    assert made.rows[1, 4:, 0].tolist() == [*range(2, 7)]
    assert made.slots.tolist() == [7, 4]
    assert made.on.tolist() == [[0, 0, 1, 4, 7, 8], [9, 13, 14, 15, 16, 17]]
    made.fill([strand(3)], [5])
    assert made.at.tolist() == [[20] * 6 + [0, 1, 2], [20] * 9]
    assert made.slots.tolist() == [5, 0]
    assert made.on.tolist() == [[0, 0, 0, 6, 7, 8], [9] * 6]


def test_what_comes_out_is_each_strands_own() -> None:
    """The last rows that are read, as copies; a tap hears as many as it came for, layer by layer."""
    made = Shared(SIZES, [PROMPT]).of(PROMPT)
    heard: list[tuple[int, list[float]]] = []
    strands = [
        strand(8, kept=[5, 6, 7], read=2),
        replace(strand(5), tap=lambda layer, rows: heard.append((layer, rows[:, 0].tolist())), listens=2),
    ]
    made.hidden.copy_(torch.arange(6.0).view(2, 3, 1).expand(-1, -1, 3))
    made.heard.copy_(torch.arange(20.0).view(2, 2, 5, 1).expand(-1, -1, -1, 3))
    found = made.results(strands)
    made.hidden.zero_()

    assert [own[:, 0].tolist() for own in found] == [[1, 2], [3, 4, 5]]
    assert heard == [(0, [8, 9]), (1, [18, 19])]


@pytest.mark.parametrize(
    ("made", "goes", "reads"),
    [
        (strand(8, read=None), 8, 8),
        (strand(8), 8, 3),
        (strand(2), 2, 2),
        (strand(8, kept=[6, 7]), 2, 2),
        (strand(8, kept=[6, 7], read=None), 2, 2),
        (strand(8, kept=[3, 5, 6, 7], read=1), 4, 1),
    ],
)
def test_no_more_rows_are_read_than_go_on(made: Strand, goes: int, reads: int) -> None:
    """A strand is counted by what its plan keeps, and by what is asked for of that."""
    assert (going(made), reading(made)) == (goes, reads)
