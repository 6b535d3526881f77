"""Which patch tokens a pruning method keeps, of given attention; merging by density; the methods that settings make."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from stillframe.domain import PRUNING_MODES, REUSE_MODES
from stillframe.reuse.clusters import merge_by_density
from stillframe.reuse.pruning import FastV, SparseVLM, ToMe, pruning_method
from stillframe.reuse.pruning_settings import FastVSettings, SparseVLMSettings, ToMeSettings
from stillframe.reuse.settings import ReuseSettings

some = settings(max_examples=max(10, settings().max_examples // 3), derandomize=True)
looks = st.lists(st.integers(0, 5), min_size=1, max_size=40)


@some
@given(attention=looks, ratio=st.floats(0, 1))
def test_fastv_keeps_the_most_attended(attention: list[int], ratio: float) -> None:
    """So many; none that goes is looked at more than one that stays, and of equals the first stay. None: all stay."""
    rows = torch.arange(len(attention))[:, None].float()
    pruned = FastV(2, ratio).prune(torch.tensor([attention]).float(), rows)
    count = round(len(attention) * (1 - ratio))
    order = sorted(range(len(attention)), key=lambda at: (-attention[at], at))

    if count == len(attention):
        assert pruned is None
    else:
        assert pruned.kept.tolist() == sorted(order[:count])
        assert pruned.rows[:, 0].tolist() == sorted(order[:count])


def test_fastv_asks_the_rows_that_say_the_action() -> None:
    """None of the text, whatever it holds; in the K-th layer."""
    assert FastV(3, 0.5).looking(torch.zeros(9, 2), torch.zeros(5, 2)) is None
    assert [*FastV(3, 0.5).layers] == [2]


def test_raters_are_the_words_that_the_picture_is_like() -> None:
    """Those above the mean; of words all alike, none of which is, all."""
    method = SparseVLM((2,), 1.0, 0.0, 0.0)
    picture = torch.tensor([[1.0, 0.0], [1.0, 0.1]])

    assert method.looking(picture, torch.tensor([[0.0, 1.0], [3.0, 0.0], [-1.0, 0.0], [3.0, 0.1]])).tolist() == [1, 3]
    assert method.looking(picture, torch.ones(3, 2)).tolist() == [0, 1, 2]


@pytest.mark.parametrize(
    ("scale", "bias", "kept"),
    [(1.0, 0.0, 2), (2.5, 0.0, 5), (1.0, 4.0, 6), (0.0, 0.0, 0), (1.0, -9.0, 0), (99.0, 0.0, 11)],
)
def test_sparsevlm_keeps_by_rank_and_never_all(scale: float, bias: float, kept: int) -> None:
    """Of rows of attention of rank two: scale * 2 + bias tokens, at least none, at most all but one."""
    first, second = torch.rand(2, 12, generator=torch.Generator().manual_seed(1))
    attention = torch.stack((first, second, first + second))
    pruned = SparseVLM((0,), scale, bias, 0.0).prune(attention, torch.randn(12, 4))

    assert len(pruned.kept) == kept
    assert pruned.kept.tolist() == sorted(attention.mean(dim=0).argsort(descending=True)[:kept].tolist())


def test_what_is_merged_stands_among_what_is_kept() -> None:
    """In order of position, each row in its own place: kept rows as they were, a merged one at its cluster's centre."""
    attention = torch.tensor([[0.9, 0.1, 0.8, 0.2, 0.7, 0.3]])
    rows = torch.tensor([[0.0], [10.0], [20.0], [11.0], [40.0], [12.0]])
    pruned = SparseVLM((0,), 3.0, 0.0, 1.0).prune(attention, rows)

    assert pruned.kept.tolist() == [0, 1, 2, 4]
    assert pruned.rows[:, 0].tolist() == [0.0, 11.0, 20.0, 40.0]


def test_the_most_attended_of_those_that_go_are_merged() -> None:
    """So large a share of them; the others leave nothing."""
    attention = torch.tensor([[0.9, 0.1, 0.8, 0.2, 0.7, 0.3, 0.0]])
    pruned = SparseVLM((0,), 3.0, 0.0, 0.5).prune(attention, torch.arange(7.0)[:, None])

    assert pruned.kept.tolist() == [0, 2, 3, 4]
    assert pruned.rows[:, 0].tolist() == [0.0, 2.0, (3.0 + 5.0) / 2, 4.0]


def test_rows_in_heaps_are_merged_heap_by_heap() -> None:
    """A centre out of each, in order, and the mean of its rows; heaps may lie mixed and differ in size."""
    random = torch.Generator().manual_seed(3)
    heap = torch.tensor([0, 1, 2, 0, 0, 1, 2, 0, 0, 1, 2, 0])
    rows = 10.0 * torch.eye(3, 5)[heap] + 0.1 * torch.randn(12, 5, generator=random)
    centres, merged = merge_by_density(rows, 3)

    assert centres.tolist() == sorted(centres.tolist())
    assert sorted(heap[centres].tolist()) == [0, 1, 2]
    for centre, row in zip(centres, merged, strict=True):
        torch.testing.assert_close(row, rows[heap == heap[centre]].mean(dim=0))


@some
@given(count=st.integers(1, 8), seed=st.integers(0, 2**31))
def test_as_many_clusters_as_rows_change_nothing(count: int, seed: int) -> None:
    """Each is its own centre, equal ones too."""
    rows = torch.randn(count, 3, generator=torch.Generator().manual_seed(seed))
    rows[count // 2] = rows[0]
    centres, merged = merge_by_density(rows, count)

    assert centres.tolist() == [*range(count)]
    assert torch.equal(merged, rows)


def test_tome_merges_what_is_alike() -> None:
    """Every other token into the most similar of those between, the most similar pairs first, by weight."""
    rows = torch.tensor([[4.0, 0.1], [1.0, 0.0], [0.0, 1.0], [0.1, 2.0], [-1.0, 1.0], [5.0, 5.0]])
    sizes = torch.tensor([3.0, 1.0, 1.0, 1.0, 2.0, 1.0])
    pruned = ToMe((0,), 0.34).merge(rows, sizes)

    assert pruned is not None
    assert pruned.kept.tolist() == [1, 3, 4, 5]
    assert pruned.sizes.tolist() == [4, 2, 2, 1]
    torch.testing.assert_close(
        pruned.rows, torch.tensor([[(3 * 4 + 1) / 4, 0.3 / 4], [0.05, 1.5], [-1.0, 1.0], [5.0, 5.0]])
    )


@some
@given(count=st.integers(1, 40), ratio=st.floats(0, 0.5), seed=st.integers(0, 2**31))
def test_tome_loses_nothing(count: int, ratio: float, seed: int) -> None:
    """What is left stands for all tokens, and its weighted mean is theirs; None where none is merged."""
    rows = torch.randn(count, 3, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    sizes = torch.arange(1.0, count + 1, dtype=torch.float64)
    pruned, gone = ToMe((0,), ratio).merge(rows, sizes), min(round(ratio * count), count // 2)

    assert (pruned is None) == (gone == 0)
    if pruned is not None:
        assert len(pruned.kept) == count - gone
        assert float(pruned.sizes.sum()) == float(sizes.sum())
        torch.testing.assert_close(pruned.sizes @ pruned.rows, sizes @ rows)


def test_settings_make_methods() -> None:
    """Each of its own section; modes that do not prune have none."""
    own = ReuseSettings(
        fastv=FastVSettings(3, 0.75),
        sparsevlm=SparseVLMSettings([1, 2], 4.0, -1.0, 0.5),
        tome=ToMeSettings([0, 3], 0.25),
    )

    assert pruning_method("fastv", own) == FastV(3, 0.75)
    assert pruning_method("sparsevlm", own) == SparseVLM((1, 2), 4.0, -1.0, 0.5)
    assert pruning_method("tome", own) == ToMe((0, 3), 0.25)
    assert [mode for mode in REUSE_MODES if pruning_method(mode, own)] == [*PRUNING_MODES]
