from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

from stillframe.engine import preemption
from stillframe.engine.drift import STEP_UP

Make = Callable[..., Any]
ROWS, LAYERS = 21, 4  # of a toy: prompt, layers
BLOCKS = 1 + 3 * LAYERS  # of its network: itself, each layer, and of each its attention and its feed-forward


def dense_kv(robots: Make, picture: Any, bench: Any) -> torch.Tensor:
    """What a dense pass over a picture leaves."""
    other = robots()
    other.see(picture)
    return bench.held(other.kv, ROWS)


@pytest.fixture
def delta(robots: Make, picture: Make, changed: Make) -> Make:
    """A robot whose last frame was a delta, and that frame: mostly reused, and wrong by it."""

    def make(mode: str = "adaptive", **knobs: Any) -> tuple[Any, Any]:
        bench = robots(mode, **knobs)
        bench.see(picture(0))
        bench.refresh()
        now = changed(picture(0), 0, 6)
        assert bench.see(now).report.cache.frame == "delta"
        return bench, now

    return make


def test_drift_is_the_distance_to_the_dense_answer(delta: Make) -> None:
    """Of the frame just answered, worst dimension, in the toys' normalised units."""
    bench, now = delta()
    answered = bench.steps[-1].chunk.actions
    report = bench.refresh()
    dense = bench.see(now, None).chunk.actions

    assert report.drift == pytest.approx(abs(answered - dense).max())
    assert report.drift > 0
    assert report.yield_ms is None


def test_a_refresh_leaves_what_a_dense_pass_leaves(delta: Make, robots: Make) -> None:
    """Keys and values equal to the bit, in other storage than before; the spare is what the session had."""
    bench, now = delta()
    session_kv, spare = bench.kv, bench.core.cache.slots.spare
    stale = bench.held(session_kv, ROWS)
    assert not torch.equal(stale, dense_kv(robots, now, bench))
    bench.refresh()
    bench.see(now)

    assert bench.kv is spare
    assert bench.core.cache.slots.spare is session_kv
    expected = dense_kv(robots, now, bench)
    reused = bench.plan.order.tolist()
    assert len(reused) == 17
    assert torch.equal(bench.held(bench.kv, ROWS)[:, :, :, reused], expected[:, :, :, reused])


def test_a_refresh_makes_ages_zero(delta: Make) -> None:
    """The oldest reused token of the next frame is one frame old, however long it was reused before."""
    bench, now = delta()
    ages = [bench.see(now).report.cache.age_max for _ in range(3)]
    bench.refresh()

    assert ages == [2, 3, 4]
    assert bench.see(now).report.cache.age_max == 1


def test_after_a_refresh_the_same_frame_is_answered_as_a_dense_pass_answers(delta: Make) -> None:
    """Everything is reused, and nothing of it is stale."""
    bench, now = delta()
    bench.refresh()
    step = bench.see(now)

    assert step.chunk.tokens.tolist() == bench.tokens(now)
    assert step.report.cache.reused_tokens == 17
    assert bench.refresh().drift == 0


def test_nothing_is_measured_after_a_keyframe(robots: Make, picture: Make) -> None:
    """It was dense itself; the pause is over at once, and there is nothing left to do."""
    bench = robots()
    bench.see(picture(0))
    passes = len(bench.model.passes)

    assert bench.core.cache.sessions.pending() is not None
    assert bench.refresh() is None
    assert len(bench.model.passes) == passes
    assert bench.core.cache.sessions.pending() is None


@pytest.mark.parametrize("mode", ["off", "exact"])
def test_modes_that_cannot_drift_need_no_pause(robots: Make, picture: Make, changed: Make, mode: str) -> None:
    """Whatever their frames were, no dense pass is run for them."""
    bench = robots(mode)
    for number in (15, 14, 13):
        bench.see(changed(picture(0), number))
        passes = len(bench.model.passes)
        assert bench.refresh() is None
        assert len(bench.model.passes) == passes


@pytest.mark.parametrize("mode", ["paper", "static-only"])
def test_published_modes_are_measured_and_left_as_they_are(delta: Make, mode: str) -> None:
    """Drift is known; storage, ages and plans go on as published, over budget or not."""
    bench, now = delta(mode, drift_budget=0.0, paper_k=None)
    before, kv = bench.held(bench.kv, ROWS), bench.kv
    report = bench.refresh()

    assert report.drift > 0
    assert torch.equal(bench.held(kv, ROWS), before)
    cache = bench.see(now).report.cache
    assert bench.kv is kv
    assert (cache.keyframe_reason, cache.age_max) == (None, 2)


@pytest.mark.parametrize("block", [1, 2, BLOCKS, BLOCKS + 2, 1 + 2 * BLOCKS])
def test_a_pause_gives_way_between_two_blocks(delta: Make, block: int) -> None:
    """At the first, the second or any later block, decoding included: the session is untouched and still pending."""
    bench, _ = delta()
    before, kv, spare = bench.held(bench.kv, ROWS), bench.kv, bench.core.cache.slots.spare
    asked: list[int] = []

    def wanted() -> bool:
        asked.append(1)
        return len(asked) == block

    report = bench.refresh(wanted)

    assert len(asked) == block
    assert report.drift is None
    assert torch.equal(bench.held(kv, ROWS), before)
    assert bench.core.cache.slots.spare is spare
    assert bench.core.cache.sessions.pending() is not None
    assert bench.refresh().drift > 0
    assert bench.core.cache.sessions.pending() is None


def test_an_undisturbed_pause_asks_before_every_block(delta: Make) -> None:
    """So a frame never waits for more than one; and before it begins, and before storage is looked through."""
    bench, _ = delta()
    asked: list[int] = []
    passes = bench.model.count_passes()
    bench.refresh(lambda: bool(asked.append(1)))

    assert len(passes) > 1
    assert len(asked) == 1 + BLOCKS * len(passes) + 1


@pytest.mark.parametrize("gave_way", [True, False])
def test_giving_way_changes_no_answer(delta: Make, changed: Make, picture: Make, *, gave_way: bool) -> None:
    """A frame after half a pause is answered as if there had been none."""
    bench, _ = delta()
    other, _ = delta()
    if gave_way:
        bench.refresh(lambda: True)
    after = changed(picture(0), 3)

    assert bench.see(after).chunk.tokens.tolist() == other.see(after).chunk.tokens.tolist()
    assert bench.steps[-1].report.cache == other.steps[-1].report.cache


def test_drift_steers_the_next_plans(delta: Make) -> None:
    """Over budget: fewer reused tokens from the next frame on; as long as answers stay good it goes back."""
    bench, now = delta(drift_budget=0.0, top_k=16)
    bench.refresh()
    session = bench.session("a")
    assert session.caution.level == STEP_UP
    level, reused = STEP_UP, []
    while level > 0:
        bench.see(now)
        assert len(bench.plan.order) - 1 == int(16 * (1 - level))
        reused.append(len(bench.plan.order) - 1)
        assert bench.refresh().drift == 0
        level = session.caution.level

    assert reused == sorted(reused)
    assert reused[0] < 16
    assert session.caution.level == 0


def test_a_wide_budget_leaves_plans_alone(delta: Make) -> None:
    """The same drift within budget: no keyframe, no caution."""
    bench, now = delta(drift_budget=2.0)
    assert bench.refresh().drift > 0

    assert bench.see(now).report.cache.keyframe_reason is None
    assert len(bench.plan.order) == 17


def test_pauses_go_to_who_was_here_longest_ago(robots: Make, picture: Make) -> None:
    """It is due soonest."""
    bench = robots()
    for robot in "abcb":
        bench.see(picture(0), robot)
    order = []
    while (session := bench.core.cache.sessions.pending()) is not None:
        order.append(session.ref.id)
        bench.refresh()

    assert order == ["a", "c", "b"]


def test_what_matters_is_told_by_the_pass_that_refreshes(robots: Make, delta: Make) -> None:
    """Where its text looked among its own keys, as after a keyframe of that picture; not among those it takes over."""
    bench, now = delta(task_top_k=3)
    bench.refresh()
    dense = robots(task_top_k=3)
    dense.see(now)
    dense.refresh()
    mine, its = (each.session("a").reuse.task_relevance.relevance for each in (bench, dense))

    torch.testing.assert_close(mine.scores, its.scores, rtol=0, atol=1e-4)


def test_a_device_does_what_it_was_asked_before_a_pause_gives_way(delta: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    """One that works on after it was asked is waited for each time before the pause looks whether a frame waits."""
    bench, _ = delta()
    events: list[str] = []
    monkeypatch.setattr(preemption, "wait_for", lambda _: lambda: events.append("done"))
    bench.refresh(lambda: bool(events.append("asked")))

    assert events[:-1] == ["done", "asked"] * (len(events) // 2)
    assert len(events) > 2 * LAYERS


@pytest.mark.parametrize("gives_way_at", [None, 1, 4])
def test_how_long_a_pause_took_is_told_in_milliseconds(delta: Make, gives_way_at: int | None) -> None:
    """From its beginning to its end, whether or not it gave way."""
    bench, _ = delta()
    asked: list[int] = []

    def wanted() -> bool:
        asked.append(1)
        bench.clock.now_s += 0.002
        return len(asked) == gives_way_at

    report = bench.refresh(wanted)

    assert (report.drift is None) is (gives_way_at is not None)
    assert report.duration_ms == pytest.approx(2 * len(asked))
