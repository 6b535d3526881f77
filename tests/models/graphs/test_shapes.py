from __future__ import annotations

from itertools import chain

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stillframe.models.graphs.shapes import GraphShape, RowCounts, assign_shapes, capture_batches, capture_shapes

CAPACITY, ANSWER_ROWS = 328, 7
SHAPES = capture_shapes(CAPACITY, ANSWER_ROWS, [1, 2, 4, 8], [64, 128, 192, 256, 320], most=8)


@st.composite
def row_counts(draw: st.DrawFn) -> RowCounts:
    """A prompt that fits a slot, or the guesses behind one."""
    if draw(st.booleans()):
        return RowCounts(ANSWER_ROWS - 1, ANSWER_ROWS - 1, ANSWER_ROWS - 1)
    entering = draw(st.integers(ANSWER_ROWS, CAPACITY))
    return RowCounts(entering, draw(st.integers(ANSWER_ROWS, entering)), ANSWER_ROWS, hooked=draw(st.booleans()))


@given(sequences=st.lists(row_counts(), min_size=1, max_size=12))
def test_every_sequence_is_in_one_batch_and_fits_it(sequences: list[RowCounts]) -> None:
    """Whatever fits a slot has a shape, more sequences than any batch too; none is left out or there twice."""
    groups = assign_shapes(SHAPES, sequences)

    assert groups is not None
    assert sorted(chain.from_iterable(group.sequences for group in groups)) == list(range(len(sequences)))
    for group in groups:
        assert len(group.sequences) <= group.shape.batch
        for sequence in (sequences[at] for at in group.sequences):
            assert sequence.surviving <= group.shape.surviving
            assert sequence.outputs <= group.shape.outputs
            assert sequence.entering <= group.shape.entering - group.shape.drops_rows
            assert group.shape.drops_rows or not sequence.of_a_prompt


@pytest.mark.parametrize(
    ("surviving", "expected"),
    [
        ([60], [(1, 64)]),
        ([65], [(1, 128)]),
        ([287], [(1, 320)]),
        ([328], [(1, 328)]),
        ([60, 60], [(2, 64)]),
        ([60, 60, 60], [(4, 64)]),
        ([287, 60, 60, 60], [(4, 64), (1, 320)]),
        ([287] * 3, [(2, 320), (1, 320)]),
        ([60] * 9, [(8, 64), (1, 64)]),
        ([287, 60, 287, 60], [(2, 64), (2, 320)]),
    ],
)
def test_sequences_go_where_they_cost_least(surviving: list[int], expected: list[tuple[int, int]]) -> None:
    """Together as long as that is less than another pass; a whole frame does not lengthen those beside it."""
    groups = assign_shapes(SHAPES, [RowCounts(CAPACITY, rows, ANSWER_ROWS) for rows in surviving])

    assert groups is not None
    assert sorted((group.shape.batch, group.shape.surviving) for group in groups) == sorted(expected)


def test_drafts_have_shapes_of_their_own() -> None:
    """Six rows do not cost what sixty-four do."""
    groups = assign_shapes(SHAPES, [RowCounts(6, 6, 6)] * 3)

    assert groups is not None
    assert [group.shape for group in groups] == [GraphShape(4, 6, 6, 6)]


@pytest.mark.parametrize("counts", [RowCounts(6, 6, 1, hooked=True), RowCounts(6, 5, 1)])
def test_a_short_prompt_is_a_prompt(counts: RowCounts) -> None:
    """What has a hook, or drops rows, goes where that can be done, however few its rows are."""
    groups = assign_shapes(SHAPES, [counts])

    assert groups is not None
    assert [group.shape for group in groups] == [GraphShape(1, CAPACITY + 1, 64, ANSWER_ROWS)]


@pytest.mark.parametrize("short", [RowCounts(6, 6, 1, hooked=True), RowCounts(6, 5, 1)])
def test_a_prompt_beside_guesses_is_a_prompt_still(short: RowCounts) -> None:
    """One with a hook, or drops rows, takes those beside it along or goes by itself."""
    groups = assign_shapes(SHAPES, [RowCounts(6, 6, 6), short])

    assert groups is not None
    assert all(group.shape.drops_rows for group in groups if 1 in group.sequences)


def test_where_nothing_is_drafted_no_drafts_are_captured() -> None:
    """An answer of one row is the prompt's last."""
    assert {shape.outputs for shape in capture_shapes(100, 1, [1, 2], [64], most=2)} == {1}


@pytest.mark.parametrize("counts", [RowCounts(329, 50, 7), RowCounts(300, 300, 300), RowCounts(329, 329, 7)])
def test_what_fits_no_shape_is_not_assigned(counts: RowCounts) -> None:
    """One sequence too long, or read too far, and the pass is not replayed at all."""
    assert assign_shapes(SHAPES, [RowCounts(60, 60, 7), counts]) is None


def test_shapes_are_captured_from_large_to_small() -> None:
    """Each finds room in what the larger ones took; a whole slot is always there, whatever was asked for."""
    sizes = [shape.elements for shape in SHAPES]

    assert sizes == sorted(sizes, reverse=True)
    assert {shape.surviving for shape in SHAPES if shape.drops_rows} == {64, 128, 192, 256, 320, CAPACITY}
    assert {shape.surviving for shape in capture_shapes(100, 7, [1], [5, 64, 320], most=1)} == {6, 64, 100}


@pytest.mark.parametrize(
    ("most", "expected"), [(8, [1, 2, 4, 8]), (6, [1, 2, 4, 8]), (4, [1, 2, 4]), (1, [1]), (20, [1, 2, 4, 8])]
)
def test_no_batch_is_captured_that_never_comes(most: int, expected: list[int]) -> None:
    """As large as is needed for all that come together, and no larger."""
    assert capture_batches([8, 1, 4, 2, 2], most) == expected


def test_where_nothing_is_drafted_only_prompts_have_shapes() -> None:
    """All rows that say the action are in the prompt's own pass."""
    shapes = capture_shapes(CAPACITY, 58, [1, 2], [40, 64], most=2, drafted=False)

    assert {(shape.batch, shape.surviving) for shape in shapes} == {(1, 64), (2, 64), (1, CAPACITY), (2, CAPACITY)}
    assert {shape.outputs for shape in shapes} == {58}
