from __future__ import annotations

from typing import Any

import pytest

from stillframe_lab.evaluation.evaluate import wilson
from stillframe_lab.evaluation.statistics import difference, pooled


def cell(
    reach: str, pick: str, *, reuse: float = 0.5, frames: int = 10, drifts: tuple[float, ...] = ()
) -> dict[str, Any]:
    """A cell's result by its outcomes."""
    outcomes = {"reach": reach, "pick": pick}
    together = reach + pick
    return {
        "wins": together.count("1"),
        "episodes": len(together),
        "outcomes": outcomes,
        "reuse_ratio": reuse,
        "frames": frames,
        "keyframes": 2,
        "drifts": list(drifts),
    }


def test_cells_are_pooled_by_their_counts() -> None:
    """Success over all episodes, reuse over all frames, drift over all measured answers."""
    both = pooled([cell("11", "10", reuse=0.8, frames=30, drifts=(0.1,)), cell("1", "1", reuse=0.4, drifts=(0.2, 0.3))])

    assert (both["wins"], both["episodes"]) == (5, 6)
    assert both["success_ci95"] == pytest.approx(wilson(5, 6))
    assert both["reuse_ratio"] == pytest.approx((0.8 * 30 + 0.4 * 10) / 40)
    assert both["keyframes"] == 4
    assert (both["drift"]["p50"], both["drift"]["frames"]) == (pytest.approx(0.2), 3)


def test_nothing_but_keyframes_has_no_drift() -> None:
    """Nought, although nothing was measured; delta frames that nobody measured have one that is not known."""
    whole, unknown = cell("1", "1", frames=2), cell("1", "1", frames=3)

    assert pooled([whole])["drift"]["p90"] == 0.0
    assert pooled([unknown])["drift"]["p90"] is None


def test_pruned_keyframes_have_a_drift() -> None:
    """That which was measured, or one that is not known."""
    pruned = {**cell("1", "1", frames=2, drifts=(0.25, 0.25)), "pruned_ratio": 0.3}

    assert pooled([pruned])["drift"]["p90"] == 0.25
    assert pooled([{**pruned, "drifts": []}])["drift"]["p90"] is None


def test_the_interval_of_a_difference_is_newcombes() -> None:
    """His worked example, 56 of 70 against 48 of 80: 0.2 with 0.0524 to 0.3339."""
    ours, theirs = cell("1" * 56 + "0" * 14, ""), cell("1" * 48 + "0" * 32, "")
    apart = difference([{**ours, "outcomes": {}}], [{**theirs, "outcomes": {}}])

    assert apart["difference"] == pytest.approx(0.2)
    assert apart["ci95"] == pytest.approx([0.0524, 0.3339], abs=1e-4)


def test_two_that_never_fail_are_not_proven_equal() -> None:
    """The difference is nought, its interval has a width."""
    apart = difference([cell("1" * 50, "1" * 50)] * 3, [cell("1" * 50, "1" * 50)] * 3)

    assert apart["difference"] == 0
    assert apart["ci95"][0] == pytest.approx(-apart["ci95"][1])
    assert 0.01 < apart["ci95"][1] < 0.02


def test_pairs_that_differ_are_counted() -> None:
    """Episode by episode, task by task: who alone succeeded."""
    apart = difference([cell("1101", "10"), cell("1", "1")], [cell("1011", "11"), cell("1", "0")])

    assert (apart["only_base_succeeds"], apart["only_arm_succeeds"]) == (2, 2)


def test_cells_of_unlike_episodes_are_no_pairs() -> None:
    """Comparing other seeds, or a cell that is not there, is somebody's mistake."""
    with pytest.raises(ValueError, match="zip"):
        difference([cell("11", "1")], [cell("1", "1")])
