"""How often pauses are used: always, never, or as drift asks."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from stillframe.engine.drift import BLIND_ANSWERS
from stillframe.engine.refresh import refresh_idle_session

Make = Callable[..., Any]


def played(bench: Any, picture: Any, frames: int) -> list[bool]:
    """See the same picture so often, with a pause behind each answer: whether it was used for a dense pass."""
    used = []
    for _ in range(frames):
        bench.see(picture)
        dense = False
        while (session := bench.core.cache.next_refresh) is not None:
            dense = refresh_idle_session(bench.core, session, lambda: False) is not None or dense
        used.append(dense)
    return used


@pytest.mark.parametrize(("slack", "used"), [(True, 12), (False, 0)])
def test_pauses_are_used_always_or_never(robots: Make, picture: Make, *, slack: bool, used: int) -> None:
    """Behind every delta frame, or behind none."""
    assert sum(played(robots(slack=slack, keyframe_every=1000), picture(0), 13)) == used


def test_a_calm_robot_is_refreshed_as_seldom_as_keyframes_were_due(robots: Make, picture: Make) -> None:
    """In the pause before a frame that would else be one; so none of its frames has to be."""
    bench = robots(slack="auto", keyframe_every=5)
    used = played(bench, picture(0), 13)

    assert used == [number > 0 and number % 4 == 0 for number in range(13)]
    assert [step.report.cache.frame for step in bench.steps] == ["keyframe"] + ["delta"] * 12


@pytest.mark.parametrize(("level", "every"), [(0.0, 4), (0.4, 2), (0.9, 1)])
def test_the_nearer_to_the_budget_the_more_often(robots: Make, picture: Make, level: float, every: int) -> None:
    """Down to every pause: caution halves what lies between two dense passes, as it does without pauses."""
    bench = robots(slack="auto", keyframe_every=5, drift_budget=0.0)
    bench.see(picture(0))
    session = bench.session("a")
    used = []
    for _ in range(8):
        session.caution.level = level
        used += played(bench, picture(0), 1)

    assert used == [number % every == every - 1 for number in range(8)]


def test_drift_that_is_not_known_is_measured(robots: Make, picture: Make) -> None:
    """However far off the next keyframe is."""
    used = played(robots(slack="auto", keyframe_every=1000), picture(0), 1 + 3 * BLIND_ANSWERS)

    assert used == [number > 0 and number % BLIND_ANSWERS == 0 for number in range(1 + 3 * BLIND_ANSWERS)]


@pytest.mark.parametrize("mode", ["paper", "static-only"])
def test_published_modes_are_measured_now_and_then(robots: Make, picture: Make, mode: str) -> None:
    """They are not refreshed, and nothing steers them."""
    bench = robots(mode, slack="auto", paper_k=None)
    used = played(bench, picture(0), 1 + 2 * BLIND_ANSWERS)

    assert used == [number > 0 and number % BLIND_ANSWERS == 0 for number in range(1 + 2 * BLIND_ANSWERS)]
    assert bench.session("a").caution.level == 0
