"""The rules of reuse that a run of frames has to keep: design, section 6, rules 5, 6, 8 and 9."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from stillframe.domain import PRUNING_MODES, REUSE_MODES

Make = Callable[..., Any]
REUSING = [mode for mode in REUSE_MODES if mode not in ("off", *PRUNING_MODES)]
PATCHES, ROWS = 16, 21  # of a toy with one camera and four words
some = settings(
    max_examples=settings().max_examples // 8,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)

# What a robot does next: patches that change (None: another scene), and whether there is a pause after it.
walks = st.lists(
    st.tuples(st.none() | st.lists(st.integers(0, PATCHES - 1), max_size=4), st.booleans()), min_size=1, max_size=8
)


def pictures(walk: list[tuple[Any, bool]], picture: Make, changed: Make) -> list[Any]:
    """The frames of a walk: each changes something of the one before, or nothing."""
    frames, now = [], picture(0)
    for number, (patches, _) in enumerate(walk):
        now = picture(100 + number) if patches is None else changed(now, *patches, seed=200 + number)
        frames.append(now)
    return frames


@some
@given(walk=walks)
def test_exact_never_changes_an_answer(robots: Make, picture: Make, changed: Make, walk: Any) -> None:
    """Rule 9: over any walk the tokens are a dense pass's, and what did not change is reused."""
    bench = robots("exact", mixing=0.0)
    for frame, (_, pause) in zip(pictures(walk, picture, changed), walk, strict=True):
        step = bench.see(frame)
        if pause:
            bench.refresh()
        assert step.chunk.tokens.tolist() == bench.tokens(frame)


def test_exact_reuses_all_that_cannot_matter(robots: Make, picture: Make, changed: Make) -> None:
    """Rule 9: an identical frame costs the text's rows, a change at patch 5 those from patch 5 on."""
    bench = robots("exact")
    for frame in (picture(0), picture(0), changed(picture(0), 5), picture(1)):
        bench.see(frame)
    reused = [step.report.cache.reused_tokens for step in bench.steps]

    assert reused == [0, 1 + PATCHES, 1 + 5, 1]
    assert bench.model.passes == [ROWS, 4, ROWS - 6, ROWS - 1]


def test_exact_trusts_no_patch_where_the_towers_look_everywhere(robots: Make, picture: Make, changed: Make) -> None:
    """Rule 6: similarity is on what the decoder sees. One moved patch moves every row, if only a little."""
    bench = robots("exact", mixing=0.1)
    bench.see(picture(0))
    now = changed(picture(0), 15)

    assert bench.see(now).report.cache.reused_tokens == 1
    assert bench.steps[-1].chunk.tokens.tolist() == bench.tokens(now)


@some
@given(walk=walks, mode=st.sampled_from(REUSING), task=st.integers(0, 20), age_limit=st.integers(1, 4))
def test_no_forbidden_row_is_ever_reused(
    robots: Make, picture: Make, changed: Make, walk: Any, mode: str, task: int, age_limit: int
) -> None:
    """Rules 5 and 6: only BOS and patches; none that the task needs; in adaptive none older than its limit."""
    bench = robots(mode, task_top_k=task, paper_task_top_k=task, paper_k=None, age_limit=age_limit)
    for frame, (_, pause) in zip(pictures(walk, picture, changed), walk, strict=True):
        cache = bench.see(frame).report.cache
        plan, reused = bench.plan, bench.plan.order[: bench.plan.counts[-1]].tolist()
        assert all(0 <= position <= PATCHES for position in reused)
        assert not any(plan.relevant[position - 1] or not plan.static[position - 1] for position in reused if position)
        assert cache.age_max <= (age_limit if mode == "adaptive" else 100)
        assert (cache.reused_tokens, cache.total_tokens) == (len(reused), ROWS)
        assert cache.reuse_ratio == plan.reuse_ratio
        if pause:
            bench.refresh()


def test_a_token_at_its_age_limit_is_computed_again(robots: Make, picture: Make) -> None:
    """Rule 6: reused for age_limit frames, then computed, then reused again; nothing moved all the while."""
    bench = robots(age_limit=3)
    caches = [bench.see(picture(0)).report.cache for _ in range(9)]

    assert [cache.reused_tokens - 1 for cache in caches[1:]] == [16, 16, 16, 0, 16, 16, 16, 0]
    assert [cache.age_max for cache in caches[1:]] == [1, 2, 3, 0, 1, 2, 3, 0]


def test_a_slow_change_is_held_against_where_it_began(robots: Make, picture: Make) -> None:
    """Rule 6: no frame differs much from the last, but after a few each token differs from its reference.

    The published way, against the last frame, never notices: mode paper keeps it, and its ages grow without bound.
    """
    frames = [np.clip(picture(0) * (1 - 0.02 * number), 0, 255).astype(np.uint8) for number in range(12)]
    ours, published = robots(distance=0.1), robots("static-only")
    for bench in (ours, published):
        for frame in frames:
            bench.see(frame)
    ages = [max(step.report.cache.age_max for step in bench.steps) for bench in (ours, published)]

    assert ages[0] < 8
    assert ages[1] == 11
    assert [step.report.cache.reused_tokens for step in published.steps[1:]] == [17] * 11


def test_static_only_asks_nobody_what_matters(robots: Make, picture: Make) -> None:
    """Rule 9: no relevance, whatever the knob says."""
    bench = robots("static-only", paper_task_top_k=16)
    for _ in range(3):
        bench.see(picture(0))

    assert bench.frame.probe is None
    assert not bench.plan.relevant.any()
    assert bench.steps[-1].report.cache.reused_tokens == 17


@pytest.mark.parametrize("mode", ["adaptive", "paper"])
def test_what_the_task_needs_is_computed(robots: Make, picture: Make, mode: str) -> None:
    """Rule 5: as many of each camera as the knob says are kept from being reused, from the second frame on."""
    cameras = {"front": picture(0), "wrist": picture(1)}
    bench = robots(mode, cameras=("front", "wrist"), task_top_k=5, paper_task_top_k=5, paper_k=None)
    bench.see(cameras)
    bench.see(cameras)
    relevant = bench.plan.relevant

    assert [int(relevant[:PATCHES].sum()), int(relevant[PATCHES:].sum())] == [5, 5]
    assert len(bench.plan.order) == 1 + 2 * 11
    assert sorted(bench.plan.order.tolist())[1:] == ((~relevant).nonzero()[:, 0] + 1).tolist()


@pytest.mark.parametrize("mode", REUSING)
def test_a_camera_that_stands_still_is_reused_beside_one_that_moves(robots: Make, picture: Make, mode: str) -> None:
    """The wrist's patches lie behind the front's: the moving one costs its own tokens only, but for exact."""
    bench = robots(mode, cameras=("front", "wrist"), paper_k=None)
    bench.see({"front": picture(0), "wrist": picture(1)})
    bench.see({"front": picture(2), "wrist": picture(1)})
    front_moved = sorted(bench.plan.order.tolist())
    bench.see({"front": picture(2), "wrist": picture(3)})
    wrist_moved = sorted(bench.plan.order.tolist())

    assert wrist_moved == [0, *range(1, 17)]
    assert front_moved == ([0] if mode == "exact" else [0, *range(17, 33)])


steps = st.lists(st.tuples(st.sampled_from("ab"), st.integers(0, 3), st.booleans()), min_size=2, max_size=12)


@pytest.mark.parametrize(
    "mode",
    [pytest.param(mode, marks=() if mode in ("exact", "adaptive") else pytest.mark.slow) for mode in REUSE_MODES],
)
@some
@given(walk=steps)
def test_two_sessions_interleaved_give_what_each_gives_alone(
    robots: Make, picture: Make, changed: Make, walk: Any, mode: str
) -> None:
    """Rule 8: tokens, reports and storage equal to the bit, in any order of frames, with pauses anywhere."""
    knobs = {"drift_budget": 0.3, "task_top_k": 2, "paper_task_top_k": 2, "gap_s": 3600}
    together, alone = robots(mode, **knobs), {robot: robots(mode, **knobs) for robot in "ab"}
    scene = {"a": picture(0), "b": picture(1)}
    for robot, patch, pause in walk:
        frame = changed(scene[robot], patch, seed=patch)
        one, other = together.see(frame, robot), alone[robot].see(frame, robot)
        assert one.chunk.tokens.tolist() == other.chunk.tokens.tolist()
        assert one.report.cache == other.report.cache
        assert together.plan.order.tolist() == alone[robot].plan.order.tolist()
        if mode not in PRUNING_MODES:  # which keep none
            held = [bench.held(bench.kv, ROWS) for bench in (together, alone[robot])]
            assert torch.equal(*held)
        if pause:  # everybody's: who was here longest ago need not be who was here last
            while together.core.cache.sessions.pending() is not None:
                together.refresh()
            for bench in alone.values():
                bench.refresh()


@pytest.mark.parametrize("mode", REUSING)
def test_an_identical_frame_is_answered_identically(robots: Make, picture: Make, mode: str) -> None:
    """Rule 2 through the whole walk: as the published code does, the mechanism itself is exact."""
    bench = robots(mode)
    for _ in range(4):
        bench.see(picture(0))

    assert [step.chunk.tokens.tolist() for step in bench.steps] == [bench.tokens(picture(0))] * 4


def test_a_dimmed_scene_is_another_scene(robots: Make, picture: Make) -> None:
    """Dimmed to 60 % adaptive sees a new scene and answers it as a dense pass would; the paper's cosine sees none."""
    dim = (picture(0) * 0.6).astype(np.uint8)
    answers = {}
    for mode in ("adaptive", "static-only"):
        bench = robots(mode)
        bench.see(picture(0))
        answers[mode] = bench.see(dim).chunk.tokens.tolist() == bench.tokens(dim)

    assert answers == {"adaptive": True, "static-only": False}


def test_a_shifted_camera_is_answered_as_densely(robots: Make, picture: Make) -> None:
    """Two pixels are enough for a textured scene to be another one."""
    bench = robots()
    bench.see(picture(0))
    shifted = np.roll(picture(0), 2, axis=1)

    assert bench.see(shifted).chunk.tokens.tolist() == bench.tokens(shifted)


def test_reuse_does_not_run_in_raster_order(robots: Make, picture: Make) -> None:
    """Where only some may be reused, those that changed least are; the published code goes by row."""
    bench = robots(top_k=4, distance=0.5)
    bench.see(picture(0))
    rng = np.random.default_rng(0)
    noisy = np.clip(picture(0) + rng.normal(0, 4, picture(0).shape), 0, 255).astype(np.uint8)
    noisy[-4:] = picture(0)[-4:]
    bench.see(noisy)

    assert sorted(bench.plan.order.tolist()) == [0, 13, 14, 15, 16]
