from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from stillframe.reuse.schedule import CumulativeEntropy, Fixed


def test_without_shares_everything_is_dropped_from_the_first_layer_on() -> None:
    """The default of a deployment that calibrated nothing."""
    assert Fixed()(4, None) == (1.0,) * 4


def test_given_shares_hold_and_the_last_goes_on() -> None:
    """A short list covers a deep decoder; a long one is cut."""
    assert Fixed((0.0, 0.25, 0.5))(5, None) == (0.0, 0.25, 0.5, 0.5, 0.5)
    assert Fixed((0.0, 0.25, 0.5))(2, None) == (0.0, 0.25)


def test_the_papers_formula_by_hand() -> None:
    """alpha_l = min(k * sum of R_j for j <= l, 1) with R_j = (E_(j-1) - E_j) / E_(j-1); nothing in layer 0."""
    entropies = torch.tensor([4.0, 3.0, 2.4, 1.8])  # R = 0.25, 0.2, 0.25

    assert CumulativeEntropy(1.0)(4, entropies) == pytest.approx((0, 0.25, 0.45, 0.7))
    assert CumulativeEntropy(2.0)(4, entropies) == pytest.approx((0, 0.5, 0.9, 1))
    assert CumulativeEntropy(0.0)(4, entropies) == (0, 0, 0, 0)


def test_shares_never_fall_where_attention_blurs() -> None:
    """A layer of higher entropy takes from the sum; the share stays, because a dropped row is gone."""
    entropies = torch.tensor([4.0, 2.0, 3.0, 1.5])  # R = 0.5, -0.5, 0.5

    assert CumulativeEntropy(1.0)(4, entropies) == pytest.approx((0, 0.5, 0.5, 0.5))
    assert CumulativeEntropy(1.5)(4, entropies) == pytest.approx((0, 0.75, 0.75, 0.75))


def test_only_the_chosen_layers_may_drop() -> None:
    """As the published code prunes at a few layers: between them the share stays; the sum counts all layers."""
    entropies = torch.tensor([4.0, 3.0, 2.4, 1.8])

    assert CumulativeEntropy(1.0, (2,))(4, entropies) == pytest.approx((0, 0, 0.45, 0.45))
    assert CumulativeEntropy(1.0, (0, 3))(4, entropies) == pytest.approx((0, 0, 0, 0.7))


def test_without_a_last_pass_nothing_is_dropped() -> None:
    """No entropies, no shares."""
    assert CumulativeEntropy(1.0)(3, None) == (0, 0, 0)


def test_only_one_of_them_asks_for_entropies() -> None:
    """Which decides whether a pass is listened to in every layer."""
    assert (Fixed().needs_entropies, CumulativeEntropy(1.0).needs_entropies) == (False, True)


@given(
    entropies=st.lists(st.floats(0, 6, width=32), min_size=2, max_size=12),
    k=st.floats(0, 1000),
    layers=st.sets(st.integers(0, 11)),
)
def test_shares_rise_within_bounds_whatever_the_entropies(entropies: list[float], k: float, layers: set[int]) -> None:
    """Zero entropies included: from 0 to 1, never falling, one a layer, none in the first."""
    shares = CumulativeEntropy(k, tuple(sorted(layers)))(len(entropies), torch.tensor(entropies))

    assert len(shares) == len(entropies)
    assert shares[0] == 0
    assert list(shares) == sorted(shares)
    assert 0 <= shares[-1] <= 1
