from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stillframe.engine.drift import STEP_DOWN, STEP_UP, Caution, drift_by_action


def test_drift_of_each_action_is_its_worst_dimensions() -> None:
    """In the order in which they are due, whichever way it went."""
    answer, dense = np.zeros((2, 3)), np.array([[0.1, 0.0, 0.0], [0.0, -0.4, 0.3]])

    assert drift_by_action(answer, dense) == (pytest.approx(0.1), pytest.approx(0.4))
    assert drift_by_action(dense, answer) == drift_by_action(answer, dense)
    assert drift_by_action(answer, answer) == (0, 0)


def test_caution_rises_over_budget_until_it_is_full() -> None:
    """A step for each answer over budget; at full caution, and only then, the next frame has to be whole."""
    caution = Caution(0.1)
    levels = []
    for _ in range(6):
        levels.append((caution.level, caution.full))
        caution.record(0.11)

    assert levels == [(pytest.approx(min(1.0, STEP_UP * n)), n >= 5) for n in range(6)]
    assert caution.level == 1
    caution.record(0.0)
    assert not caution.full


def test_an_answer_at_the_budget_is_within_it() -> None:
    """Only what is over raises caution."""
    caution = Caution(0.1)
    caution.record(0.1)

    assert caution.level == 0


def test_caution_falls_slowly_within_half_of_the_budget() -> None:
    """Down to nothing; it takes about ten good answers to make up for a bad one."""
    caution = Caution(0.1)
    caution.record(0.2)
    after_bad = caution.level
    caution.record(0.05)
    after_good = caution.level
    for _ in range(50):
        caution.record(0.0)

    assert (after_bad, after_bad - after_good) == pytest.approx((STEP_UP, STEP_DOWN))
    assert pytest.approx(10 * STEP_DOWN) == STEP_UP
    assert caution.level == 0


def test_caution_holds_the_ninetieth_percentile() -> None:
    """Where one answer in ten is over budget caution rises, where one in twelve is it falls."""

    def after(period: int) -> float:
        caution = Caution(0.1, level=0.5)
        for index in range(period * 20):
            caution.record(0.2 if index % period == 0 else 0.0)
        return caution.level

    assert after(10) > 0.5 > after(12)


def test_caution_stays_between_half_and_the_whole_budget() -> None:
    """So that it does not swing."""
    caution = Caution(0.1, level=0.5)
    caution.record(0.07)

    assert caution.level == 0.5


@pytest.mark.parametrize(("drift", "change"), [(0.2, 0.75 * STEP_UP - 0.25 * STEP_DOWN), (0.07, -0.25 * STEP_DOWN)])
def test_keyframes_between_the_answers_count_as_within(drift: float, change: float) -> None:
    """Of four answers one is a keyframe, which cannot drift: what is measured stands for the other three."""
    caution = Caution(0.1, level=0.5)
    caution.record(drift, share=0.75)

    assert caution.level == pytest.approx(0.5 + change)


curves = st.lists(st.floats(0, 1), min_size=4, max_size=4).map(lambda drifts: [*sorted(drifts, reverse=True), 0.0, 0.0])


@given(curves, st.sampled_from([0.5, 0.75, 1.0]), st.integers(1, 400))
def test_drift_that_falls_with_caution_comes_within_budget(curve: list[float], share: float, answers: int) -> None:
    """However it falls: of all answers, keyframes among them, one in ten is over budget, and five at the beginning."""
    caution, over = Caution(0.1), 0.0
    for _ in range(answers):
        drift = curve[int(caution.level * 5)]
        over += share * (drift > caution.budget)
        caution.record(drift, share)

    assert over <= answers * STEP_DOWN / STEP_UP + 1 / STEP_UP + 1e-6


@given(st.lists(st.floats(0, 0.05), min_size=51, max_size=80), st.floats(0, 1))
def test_caution_is_given_up_where_nothing_drifts(drifts: list[float], level: float) -> None:
    """From wherever it was."""
    caution = Caution(0.1, level=level)
    for drift in drifts:
        caution.record(drift)

    assert caution.level == 0


@given(st.floats(0, 2), st.lists(st.floats(0, 2), max_size=60))
def test_caution_stays_in_range(budget: float, drifts: list[float]) -> None:
    """Whatever drifts come."""
    caution = Caution(budget)
    for drift in drifts:
        caution.record(drift)
        assert 0 <= caution.level <= 1
