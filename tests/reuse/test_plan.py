from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from stillframe.reuse.plan import ReusePlan

CPU = torch.device("cpu")


def plan(order: list[int], counts: tuple[int, ...], rows: int = 12) -> ReusePlan:
    """A plan in which position 0 is BOS and the others are patches from position 1 on."""
    nothing = torch.zeros(8, dtype=torch.bool)
    patches = torch.tensor([position - 1 for position in order if position], dtype=torch.long)
    return ReusePlan(rows, torch.tensor(order, dtype=torch.long), counts, patches, nothing, nothing)


def through(made: ReusePlan) -> list[list[int]]:
    """Positions that go through each layer, as a pass works them out from `kept`."""
    now: Tensor = torch.arange(made.rows)
    layers = []
    for layer in range(len(made.counts)):
        now = now[made.kept[layer]] if layer in made.kept else now
        layers.append(now.tolist())
    return layers


@st.composite
def plans(draw: st.DrawFn) -> ReusePlan:
    """Any rising counts over any order of BOS and patches; three rows of text at the end."""
    rows = draw(st.integers(4, 20))
    order = draw(st.permutations(range(rows - 3)))
    layers = draw(st.integers(1, 6))
    counts = sorted(draw(st.lists(st.integers(0, len(order)), min_size=layers, max_size=layers)))
    return plan(list(order), tuple(counts), rows)


@given(plans())
def test_each_layer_computes_what_its_count_leaves(made: ReusePlan) -> None:
    """Layer l: all positions but order[:counts[l]], rising; what has dropped never comes back."""
    for layer, count in enumerate(made.counts):
        dropped = set(made.order[:count].tolist())
        assert through(made)[layer] == [position for position in range(made.rows) if position not in dropped]


@given(plans())
def test_the_ratio_is_token_layers_reused(made: ReusePlan) -> None:
    """Of all rows of all layers, those that were not computed."""
    computed = sum(len(rows) for rows in through(made))
    all_of_them = made.rows * len(made.counts)

    assert made.reuse_ratio == pytest.approx(1 - computed / all_of_them)


@given(plans())
def test_a_patch_counts_as_reused_if_any_layer_reuses_it(made: ReusePlan) -> None:
    """The tokens that keep their reference are those of the last layer, where most are reused; BOS is none of them."""
    if made.order.tolist()[:1] != [0]:
        made = plan([0, *[place for place in made.order.tolist() if place]], made.counts, made.rows)
    last = {position - 1 for position in made.order[: made.counts[-1]].tolist() if position}

    assert set(made.reused_patches.tolist()) == last
    assert len(made.reused_patches) == len(last)


def test_layers_that_drop_nothing_are_not_mentioned() -> None:
    """A pass gathers rows only where rows leave; indices are into the rows that enter the layer."""
    made = plan([0, 4, 2], (1, 1, 3, 3))

    assert list(made.kept) == [0, 2]
    assert made.kept[0].tolist() == [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11]
    assert made.kept[2].tolist() == [0, 2, 4, 5, 6, 7, 8, 9, 10]


def test_a_keyframe_computes_everything() -> None:
    """No counts, no order, ratio 0, and a verdict for every patch token."""
    made = ReusePlan.whole(12, 3, 8, CPU)

    assert (made.counts, made.reuse_ratio, len(made.order), len(made.reused_patches)) == ((0, 0, 0), 0, 0, 0)
    assert through(made) == [[*range(12)]] * 3
    assert dict(made.kept) == {}
    assert (made.static.tolist(), made.relevant.tolist()) == ([False] * 8, [False] * 8)


@pytest.mark.parametrize("counts", [(2, 1), (0, 4), (-1, 0), (3, 2, 3)])
def test_counts_that_cannot_be_are_refused(counts: tuple[int, ...]) -> None:
    """Falling, more than there are, fewer than none: the error gives the counts and what there is to reuse."""
    with pytest.raises(ValueError, match=r"never fall, of 3 reusable of 12 rows"):
        plan([0, 1, 2], counts)


def test_a_plan_that_leaves_no_row_is_refused() -> None:
    """At least one row has to come out of a pass."""
    with pytest.raises(ValueError, match="3 reusable of 3 rows"):
        plan([0, 1, 2], (3,), rows=3)
