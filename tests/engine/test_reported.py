"""What a frame's report says for a recording: which patches were reused, and how far the last answer drifted."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from stillframe.engine.drift import STEP_UP

Make = Callable[..., Any]


def test_reused_patches_are_those_that_did_not_change(robots: Make, picture: Make, changed: Make) -> None:
    """Of each camera by its own numbers, row by row; a keyframe reuses none."""
    bench = robots(cameras=("front", "wrist"))
    bench.core.cache.reports_patches = True
    first = bench.see({"front": picture(0), "wrist": picture(1)}).report.cache.patches
    bench.refresh()
    now = {"front": changed(picture(0), 0, 6), "wrist": changed(picture(1), 3, 9, 15)}
    delta = bench.see(now).report.cache.patches

    assert {camera: patches.reused for camera, patches in first.items()} == {"front": (), "wrist": ()}
    assert {patches.grid for patches in (first | delta).values()} == {(4, 4)}
    assert delta["front"].reused == tuple(patch for patch in range(16) if patch not in {0, 6})
    assert delta["wrist"].reused == tuple(patch for patch in range(16) if patch not in {3, 9, 15})


def test_patches_are_not_reported_unasked(robots: Make, picture: Make) -> None:
    """A GPU would be waited for."""
    assert robots().see(picture(0)).report.cache.patches is None


@pytest.mark.parametrize("reset", [False, True])
def test_the_next_frame_says_how_far_the_last_answer_drifted(
    robots: Make, picture: Make, changed: Make, *, reset: bool
) -> None:
    """Once, where a refresh measured it, and within an episode."""
    bench = robots()
    bench.see(picture(0))
    bench.refresh()
    assert bench.see(changed(picture(0), 0, 6)).report.cache.last_drift is None
    measured = bench.refresh().drift
    if reset:
        bench.reset("a")
    said = [bench.see(picture(0)).report.cache.last_drift for _ in range(2)]

    assert measured > 0
    assert said == [None if reset else measured, None]


def test_a_delta_frame_says_what_the_task_looks_at_and_how_careful_its_plan_was(
    robots: Make, picture: Make, changed: Make
) -> None:
    """Of its own plan: the next frame's caution follows what is measured now. A keyframe computes all there is."""
    bench = robots(task_top_k=5, drift_budget=0.0)
    first = bench.see(picture(0)).report.cache
    bench.refresh()
    second = bench.see(changed(picture(0), 0, 6)).report.cache
    relevant = int(bench.plan.relevant.sum())
    assert bench.refresh().drift > 0
    third = bench.see(changed(picture(0), 0, 6)).report.cache

    assert (first.frame, first.relevant_tokens, first.caution) == ("keyframe", 0, 0.0)
    assert (second.relevant_tokens, relevant) == (5, 5)
    assert (second.caution, third.caution) == (0.0, STEP_UP)
