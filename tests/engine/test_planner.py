from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from stillframe.domain import KeyframeReason

Make = Callable[..., Any]
PATCHES = 16


def told(bench: Any) -> KeyframeReason | None:
    """Why the last frame was whole; None for a delta frame."""
    reason: KeyframeReason | None = bench.steps[-1].report.cache.keyframe_reason
    return reason


@pytest.mark.parametrize(
    ("knobs", "expected"), [({"task_top_k": 3}, KeyframeReason.SCENE_CUT), ({"task_top_k": 0}, None)]
)
def test_nothing_is_reused_where_it_is_not_known_what_matters(
    robots: Make, picture: Make, knobs: dict[str, int], expected: KeyframeReason | None
) -> None:
    """As when a pause failed that was to find out: the next frame is whole, and says it. Unless no plan asks."""
    bench = robots(**knobs)
    bench.see(picture(0))
    bench.session("a").pending = None
    for reason in (expected, None):
        bench.see(picture(0))
        assert told(bench) == reason


@pytest.mark.parametrize("mode", ["paper", "exact"])
def test_as_published_plans_are_made_all_the_same(robots: Make, picture: Make, mode: str) -> None:
    """What was not found out is left out."""
    bench = robots(mode, paper_task_top_k=3, paper_k=None)
    bench.see(picture(0))
    bench.session("a").pending = None
    bench.see(picture(0))

    assert told(bench) is None
    assert bench.steps[-1].report.cache.reused_tokens == 1 + PATCHES


@pytest.mark.parametrize(("still", "expected"), [(4, None), (3, KeyframeReason.SCENE_CUT)])
@pytest.mark.parametrize("cameras", [("front",), ("front", "wrist")], ids=len)
def test_a_scene_is_cut_where_less_than_its_share_stayed(
    robots: Make, picture: Make, changed: Make, cameras: tuple[str, ...], still: int, expected: KeyframeReason | None
) -> None:
    """A quarter of all tokens is enough, whichever camera sees them; BOS is none of them, and is always reused."""
    bench = robots(cameras=cameras, scene_cut=0.25)
    bench.see({camera: picture(0) for camera in cameras})
    moved = len(cameras) * (PATCHES - still) - PATCHES * (len(cameras) - 1)
    now = {camera: picture(7) for camera in cameras} | {"front": changed(picture(0), *range(moved), seed=7)}
    bench.see(now)

    assert told(bench) == expected
    assert bench.steps[-1].report.cache.reused_tokens == (0 if expected else 1 + len(cameras) * still)


@pytest.mark.parametrize(("pause_s", "expected"), [(2.0, None), (2.25, KeyframeReason.GAP)])
def test_a_gap_is_longer_than_it_may_be(
    robots: Make, picture: Make, pause_s: float, expected: KeyframeReason | None
) -> None:
    """To the very end of gap_s a frame is the next one."""
    bench = robots(gap_s=2.0)
    bench.see(picture(0))
    bench.clock.now_s, bench.frame_s = float(round(bench.clock.now_s)), 0.0
    bench.see(picture(0))
    bench.clock.now_s += pause_s
    bench.see(picture(0))

    assert told(bench) == expected


def test_the_first_reason_is_told(robots: Make, picture: Make) -> None:
    """Of several that lie in the frame: mode, then cameras, then instruction, then time; a session's own before all."""
    bench = robots(gap_s=1.0)
    other = picture(0).repeat(2, axis=0)

    def see(reason: KeyframeReason | None, **frame: Any) -> None:
        bench.clock.now_s += 5
        bench.see(other, **frame)
        assert told(bench) is reason
        bench.see(picture(0))

    bench.see(picture(0))
    see(KeyframeReason.MODE, says="lift it", mode="exact")
    see(KeyframeReason.CAMERAS, says="lift it")
    bench.reset("a")
    see(KeyframeReason.RESET, says="lift it", mode="exact")
    bench.clock.now_s += 5
    bench.see(picture(0), says="lift it")
    assert told(bench) is KeyframeReason.INSTRUCTION
    bench.reset("a")
    bench.see(picture(0), mode="off")
    assert told(bench) is KeyframeReason.OFF


def test_a_share_is_of_whole_tokens_and_the_last_layers_are_reported(robots: Make, picture: Make) -> None:
    """Of sixteen seven tenths are eleven, and BOS; a layer that drops none before them reuses BOS alone."""
    bench = robots(schedule=[0.0, 0.7])
    for _ in range(2):
        bench.see(picture(0))
    cache = bench.steps[-1].report.cache

    assert bench.plan.counts == (1, 12, 12, 12)
    assert cache.reused_tokens == 12
    assert cache.reuse_ratio == pytest.approx((1 + 12 + 12 + 12) / (4 * 21))


@pytest.mark.parametrize("mode", ["adaptive", "paper"])
def test_a_plan_says_what_matters_and_reuses_the_rest(robots: Make, picture: Make, mode: str) -> None:
    """As many as the knob says are named, none of which is reused."""
    bench = robots(mode, task_top_k=5, paper_task_top_k=5, paper_k=None)
    for _ in range(2):
        bench.see(picture(0))
    plan = bench.plan

    assert int(plan.relevant.sum()) == 5
    assert sorted(plan.patches.tolist()) == (~plan.relevant).nonzero()[:, 0].tolist()
    assert plan.static.all()
