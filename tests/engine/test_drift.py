from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stillframe.engine.drift import STEP_DOWN, STEP_UP, Caution, drift_of


def test_drift_is_the_worst_dimensions() -> None:
    """Of any action in the chunk, whichever way it went."""
    answer, dense = np.zeros((2, 3)), np.array([[0.1, 0.0, 0.0], [0.0, -0.4, 0.3]])

    assert drift_of(answer, dense) == pytest.approx(0.4)
    assert drift_of(dense, answer) == pytest.approx(0.4)
    assert drift_of(answer, answer) == 0


def test_caution_rises_over_budget_and_says_so() -> None:
    """A step for each answer over budget, up to full caution."""
    caution = Caution(0.1)

    assert [caution.saw(0.11) for _ in range(6)] == [True] * 6
    assert caution.level == 1
    assert Caution(0.1).saw(0.1) is False


def test_caution_falls_slowly_within_half_of_the_budget() -> None:
    """Down to nothing; it takes more good answers than bad ones."""
    caution = Caution(0.1)
    caution.saw(0.2)
    after_bad = caution.level
    assert caution.saw(0.05) is False
    after_good = caution.level
    for _ in range(50):
        caution.saw(0.0)

    assert (after_bad, after_bad - after_good) == pytest.approx((STEP_UP, STEP_DOWN))
    assert 0 < STEP_DOWN <= STEP_UP / 3
    assert caution.level == 0


def test_caution_stays_between_half_and_the_whole_budget() -> None:
    """So that it does not swing."""
    caution = Caution(0.1, level=0.5)

    assert caution.saw(0.07) is False
    assert caution.level == 0.5


@given(st.floats(0, 2), st.lists(st.floats(0, 2), max_size=60))
def test_caution_stays_in_range(budget: float, drifts: list[float]) -> None:
    """Whatever drifts come."""
    caution = Caution(budget)
    for drift in drifts:
        assert caution.saw(drift) is (drift > budget)
        assert 0 <= caution.level <= 1
