from __future__ import annotations

from itertools import chain

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stillframe.models.graphs.shapes import Extent, Form, grouped, needed, recorded

CAPACITY, ANSWER_ROWS = 328, 7
FORMS = recorded(CAPACITY, ANSWER_ROWS, [1, 2, 4, 8], [64, 128, 192, 256, 320], most=8)


@st.composite
def extents(draw: st.DrawFn) -> Extent:
    """A prompt that fits a slot, or the guesses behind one."""
    if draw(st.booleans()):
        return Extent(ANSWER_ROWS - 1, ANSWER_ROWS - 1, ANSWER_ROWS - 1)
    entering = draw(st.integers(ANSWER_ROWS, CAPACITY))
    return Extent(entering, draw(st.integers(ANSWER_ROWS, entering)), ANSWER_ROWS, heard=draw(st.booleans()))


@given(strands=st.lists(extents(), min_size=1, max_size=12))
def test_every_strand_is_in_one_group_and_fits_it(strands: list[Extent]) -> None:
    """Whatever fits a slot has a form, more strands than any batch too; nobody is left out or there twice."""
    groups = grouped(FORMS, strands)

    assert groups is not None
    assert sorted(chain.from_iterable(group.strands for group in groups)) == list(range(len(strands)))
    for group in groups:
        assert len(group.strands) <= group.form.batch
        for strand in (strands[at] for at in group.strands):
            assert strand.going <= group.form.going
            assert strand.reading <= group.form.reading
            assert strand.entering <= group.form.entering - group.form.thins
            assert group.form.thins or not strand.of_a_prompt


@pytest.mark.parametrize(
    ("going", "expected"),
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
def test_strands_go_where_they_cost_least(going: list[int], expected: list[tuple[int, int]]) -> None:
    """Together as long as that is less than another pass; a whole frame does not lengthen those beside it."""
    groups = grouped(FORMS, [Extent(CAPACITY, rows, ANSWER_ROWS) for rows in going])

    assert groups is not None
    assert sorted((group.form.batch, group.form.going) for group in groups) == sorted(expected)


def test_guesses_have_forms_of_their_own() -> None:
    """Six rows do not cost what sixty-four do."""
    groups = grouped(FORMS, [Extent(6, 6, 6)] * 3)

    assert groups is not None
    assert [group.form for group in groups] == [Form(4, 6, 6, 6)]


@pytest.mark.parametrize("extent", [Extent(6, 6, 1, heard=True), Extent(6, 5, 1)])
def test_a_short_prompt_is_a_prompt(extent: Extent) -> None:
    """What is listened to, or drops rows, goes where that can be done, however few its rows are."""
    groups = grouped(FORMS, [extent])

    assert groups is not None
    assert [group.form for group in groups] == [Form(1, CAPACITY + 1, 64, ANSWER_ROWS)]


@pytest.mark.parametrize("short", [Extent(6, 6, 1, heard=True), Extent(6, 5, 1)])
def test_a_prompt_beside_guesses_is_a_prompt_still(short: Extent) -> None:
    """One that is heard, or drops rows, takes those beside it along or goes by itself."""
    groups = grouped(FORMS, [Extent(6, 6, 6), short])

    assert groups is not None
    assert all(group.form.thins for group in groups if 1 in group.strands)


def test_where_nothing_is_guessed_no_guesses_are_recorded() -> None:
    """An answer of one row is the prompt's last."""
    assert {form.reading for form in recorded(100, 1, [1, 2], [64], most=2)} == {1}


@pytest.mark.parametrize("extent", [Extent(329, 50, 7), Extent(300, 300, 300), Extent(329, 329, 7)])
def test_what_fits_no_form_is_nobodys(extent: Extent) -> None:
    """One strand too long, or read too far, and the pass is not replayed at all."""
    assert grouped(FORMS, [Extent(60, 60, 7), extent]) is None


def test_forms_are_recorded_from_large_to_small() -> None:
    """Each finds room in what the larger ones took; a whole slot is always there, whatever was asked for."""
    sizes = [form.elements for form in FORMS]

    assert sizes == sorted(sizes, reverse=True)
    assert {form.going for form in FORMS if form.thins} == {64, 128, 192, 256, 320, CAPACITY}
    assert {form.going for form in recorded(100, 7, [1], [5, 64, 320], most=1)} == {6, 64, 100}


@pytest.mark.parametrize(
    ("most", "expected"), [(8, [1, 2, 4, 8]), (6, [1, 2, 4, 8]), (4, [1, 2, 4]), (1, [1]), (20, [1, 2, 4, 8])]
)
def test_no_batch_is_recorded_that_never_comes(most: int, expected: list[int]) -> None:
    """As large as is needed for all that come together, and no larger."""
    assert needed([8, 1, 4, 2, 2], most) == expected
