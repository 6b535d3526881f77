"""Policies whose expert draws a chunk over a bidirectional prefix, on the engine: micro checkpoints, pi0 and pi0.5."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from stillframe.domain import PRUNING_MODES, Image, KeyframeReason, Observation, ReuseMode, SessionRef, Step
from stillframe.engine.core import EngineCore
from stillframe.engine.cuda_graphs import CaptureConfig, capture_graphs, needs_of
from stillframe.engine.kv_slots import kv_shape
from stillframe.engine.refresh import refresh_idle_session
from stillframe.engine.requests import FrameRequest
from stillframe.engine.settings import GraphSettings
from stillframe.engine.step import step
from stillframe.errors import ConfigError
from stillframe.models.base import ImageEncoder, PolicyModel
from stillframe.models.graphs.chunk_graphs import GraphedChunks
from stillframe.models.pi0.model import Pi0
from stillframe.models.registry import load_policy
from stillframe.models.runner import ModelRunner
from stillframe.reuse.selection import TaskRelevance
from stillframe.reuse.settings import AdaptiveSettings, PaperSettings, RelevanceSource, ReuseSettings
from stillframe.testing import ManualClock

GOLDENS = Path(__file__).parents[1] / "goldens" / "pi0"
CAMERAS = ("base_0_rgb", "left_wrist_0_rgb")
WORDS = "put the spoon on the towel"
CLOSE = {"rtol": 0, "atol": 2e-5}


@pytest.fixture(scope="module", params=["pi0", "pi05"])
def model(request: pytest.FixtureRequest) -> Pi0:
    """Two pictures and a state."""
    keys = {"pi0": {}, "pi05": {"discrete_state_input": True}}[request.param]
    loaded = load_policy(
        GOLDENS / f"{request.param}-micro", dtype=torch.float32, device=torch.device("cpu"), config=keys
    )
    assert isinstance(loaded, Pi0)
    return loaded


@pytest.fixture(scope="module")
def states() -> np.ndarray:
    """[2, 8]."""
    with np.load(GOLDENS / "pi0-micro.npz") as record:
        return np.asarray(record["states"])


@pytest.fixture(scope="module")
def shots() -> dict[str, list[Image]]:
    """Three frames of each camera: the second a little changed, the third another scene."""
    with np.load(GOLDENS / "pi0-micro.npz") as record:
        first = {camera: record[f"f0/{camera}"] for camera in CAMERAS}
        other = {CAMERAS[0]: record["f1/base_0_rgb"], CAMERAS[1]: record["f1/right_wrist_0_rgb"]}
    made = {}
    for camera in CAMERAS:
        second = first[camera].copy()
        second[100:140, 60:90] = other[camera][100:140, 60:90]
        made[camera] = [first[camera], second, other[camera]]
    return made


class Bench:
    """An engine core on one thread, as the engine's drives it."""

    def __init__(
        self,
        model: PolicyModel,
        shots: dict[str, list[Image]],
        states: np.ndarray,
        mode: Any,
        relevance: RelevanceSource = "text",
        k: float | None = None,
    ):
        settings = ReuseSettings(
            mode=mode,
            drift_budget=2,
            slot_text_tokens=80,
            adaptive=AdaptiveSettings(task_top_k=40, distance=1.0, scene_cut=0.05, relevance=relevance),
            paper=PaperSettings(tau=0.9, task_top_k=40, k=k, relevance=relevance),
        )
        self.clock = ManualClock(100.0)
        self.core = EngineCore.of(model, settings, self.clock, default_sessions=3)
        self.core.cache._actions.refusal = lambda *_: None  # type: ignore[method-assign] # random weights go anywhere
        self.shots, self.states = shots, states

    def request(
        self, shot: int, robot: str | None = "a", state: int = 0, words: str = WORDS, seq: int = 0
    ) -> FrameRequest:
        """A robot's frame; what is drawn by chance is the same for one robot and seq."""
        images = {camera: self.shots[camera][shot] for camera in CAMERAS}
        ref = None if robot is None else SessionRef(robot, seq=seq)
        return FrameRequest(Observation(images, words, state=self.states[state]), ref)

    def answers(self, *requests: FrameRequest) -> list[Step]:
        """Compute frames side by side."""
        self.clock.now_s += 0.1
        answers = step(self.core, requests)
        assert all(isinstance(answer, Step) for answer in answers), answers
        return [answer for answer in answers if isinstance(answer, Step)]

    def relevance(self, robot: str) -> TaskRelevance:
        """What a robot's next frame will be planned by."""
        session = self.core.cache.sessions.known(robot)
        assert session is not None
        session.resolve_relevance()
        assert session.reuse is not None
        assert session.reuse.task_relevance is not None
        return session.reuse.task_relevance

    def see(self, shot: int, robot: str | None = "a", state: int = 0) -> Step:
        """Compute one frame."""
        return self.answers(self.request(shot, robot, state))[0]


Make = Callable[..., Bench]


@pytest.fixture
def bench(model: Pi0, shots: dict[str, list[Image]], states: np.ndarray) -> Make:
    """Make one: `bench("adaptive")`."""
    return lambda mode, **knobs: Bench(model, shots, states, mode, **knobs)


def actions(step: Step) -> np.ndarray:
    """[horizon, action_dim]."""
    return step.chunk.actions


def test_frames_side_by_side_get_what_each_gets_alone(bench: Make) -> None:
    """Two robots whose prompts differ in length, in one pass and one flow; a stateless frame beside them."""
    both, alone = bench("off"), bench("off")
    together = both.answers(
        both.request(0, "a"), both.request(2, "b", 1, "pick up the black bowl"), both.request(1, None)
    )
    apart = [
        *alone.answers(alone.request(0, "a")),
        *alone.answers(alone.request(2, "b", 1, "pick up the black bowl")),
        *alone.answers(alone.request(1, None)),
    ]

    for one, other in zip(together, apart, strict=True):
        np.testing.assert_allclose(actions(one), actions(other), **CLOSE)
    assert together[0].report.batch == 3
    assert np.abs(actions(apart[0]) - actions(apart[1])).max() > 1e-2


def test_chance_follows_from_the_frames_place_in_its_session(bench: Make) -> None:
    """The same frame computed again gives the same chunk; the next one of the same pictures another."""
    one = bench("off")
    first, again, later = (one.answers(one.request(0, seq=seq))[0] for seq in (0, 0, 1))

    np.testing.assert_array_equal(actions(first), actions(again))
    assert np.abs(actions(first) - actions(later)).max() > 1e-2


def test_everything_reused_is_the_dense_answer(bench: Make) -> None:
    """The same frame over its own keys: static tokens are not computed, and the chunk stays within rounding."""
    one = bench("adaptive")
    first = one.see(0)
    assert one.core.cache.next_refresh is not None
    refresh_idle_session(one.core, one.core.cache.next_refresh, lambda: False)
    again = one.see(0)

    assert first.report.cache.keyframe_reason is KeyframeReason.FIRST_FRAME
    assert again.report.cache.keyframe_reason is None
    assert again.report.cache.reuse_ratio > 0.5
    np.testing.assert_allclose(actions(first), actions(again), **CLOSE)


@pytest.mark.few(2)
@pytest.mark.parametrize("mode", ["adaptive", "paper", "static-only"])
def test_a_delta_frame_drifts_and_its_refresh_measures_it(bench: Make, mode: str) -> None:
    """Part of the picture moved: fewer rows are computed, the answer is near the dense one, the refresh measures it."""
    one, dense = bench(mode), bench("off")
    one.see(0)
    delta, whole = one.see(1), dense.see(1)
    session = one.core.cache.next_refresh
    if mode == "adaptive" and delta.report.cache.keyframe_reason is not None:
        pytest.fail(f"a keyframe: {delta.report.cache.keyframe_reason}")

    assert 0 < delta.report.cache.reuse_ratio < 1
    apart = np.abs(actions(delta) - actions(whole)).max()
    assert apart < np.abs(actions(one.see(2, "c")) - actions(whole)).max()
    assert session is not None
    report = refresh_idle_session(one.core, session, lambda: False)
    assert report is not None
    assert (report.drift or 0) > 0


def test_a_refresh_gives_way_while_the_expert_draws(bench: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    """The expert writes into no cache; a frame that comes in while it draws waits for one of its blocks."""
    one = bench("adaptive")
    for shot in (0, 1):
        one.see(shot)
    session, drawing, asked = one.core.cache.next_refresh, [False], []
    assert session is not None
    act = Pi0.act

    def acting(*parts: Any) -> Any:
        drawing[0] = True
        return act(*parts)

    monkeypatch.setattr(Pi0, "act", acting)

    def wanted() -> bool:
        asked.append(drawing[0])
        return sum(asked) == 4

    report = refresh_idle_session(one.core, session, wanted)

    assert report is not None
    assert report.drift is None
    assert asked[-4:] == [True] * 4
    assert one.core.cache.next_refresh is session


def test_exact_reuses_nothing_where_every_row_sees_every_other(bench: Make) -> None:
    """Whole frames, and the reason."""
    one = bench("exact")
    one.see(0)
    again = one.see(0)

    assert again.report.cache.keyframe_reason is KeyframeReason.INEXACT
    assert again.report.cache.reuse_ratio == 0


def test_a_picture_that_did_not_change_is_not_looked_at_again(bench: Make, model: Pi0) -> None:
    """Though the state did, which pi0.5 has in words: the tower sees what changed, and the chunk is right."""
    one, fresh, seen = bench("off"), bench("off"), []
    encode: ImageEncoder = model.network.patches

    def watched(pixels: torch.Tensor) -> torch.Tensor:
        seen.append(len(pixels))
        return encode(pixels)

    one.core.runner = ModelRunner(model, one.core.runner.decoder, watched)
    one.see(0)
    moved = one.see(0, state=1)
    assert seen == [2]
    np.testing.assert_allclose(actions(moved), actions(fresh.see(0, state=1)), **CLOSE)

    images = {CAMERAS[0]: one.shots[CAMERAS[0]][0], CAMERAS[1]: one.shots[CAMERAS[1]][2]}
    last = replace(one.request(0), observation=Observation(images, WORDS, state=one.states[1]))
    (wrist,) = one.answers(last)
    (expected,) = bench("off").answers(last)
    assert seen == [2, 1]
    np.testing.assert_allclose(actions(wrist), actions(expected), **CLOSE)


def test_captured_passes_over_prefixes_are_the_eager_ones(bench: Make) -> None:
    """Keyframes and delta frames are replayed, and what the expert makes of their keys: the chunks are the same."""

    def play(compute: Callable[[], None]) -> Callable[[], None]:
        compute()
        return compute

    eager, graphed = bench("adaptive"), bench("adaptive")
    core = graphed.core
    config = CaptureConfig(GraphSettings(batches=[1, 2], rows=[256, 448]), 2, 80)
    core.runner = capture_graphs(core.model, core.cache.slots.pool, config, play)
    for robots in (eager, graphed):
        robots.see(0, "a")
    one = eager.answers(eager.request(1, "a"), eager.request(2, "b", 1, "open it"))
    other = graphed.answers(graphed.request(1, "a"), graphed.request(2, "b", 1, "open it"))

    for expected, own in zip(one, other, strict=True):
        np.testing.assert_allclose(actions(own), actions(expected), **CLOSE)
        assert own.report.cache == expected.report.cache
    assert core.runner.counts is not None
    assert isinstance(core.runner.decoder.chunks, GraphedChunks)
    assert (core.runner.counts.replays, sum(core.runner.counts.eager.values())) == (5, 0)  # a step's passes, its chunks


def test_memory_for_chunks_is_asked_for(model: Pi0, monkeypatch: pytest.MonkeyPatch) -> None:
    """Beside the passes', by batch size; none where nothing is captured."""
    settings = ReuseSettings(slot_text_tokens=80)
    graphs = (GraphSettings(batches=[1, 2]), GraphSettings(enabled=False))
    asked, off = (needs_of(model, settings, CaptureConfig(one, 2, 80), weights=5) for one in graphs)
    monkeypatch.setattr(Pi0, "static_chunks_bytes", lambda *_: 0)
    passes = needs_of(model, settings, CaptureConfig(graphs[0], 2, 80), weights=5)
    monkeypatch.undo()
    capacity = kv_shape(model, 80).capacity

    for batch in (1, 2):
        assert asked.graphs[batch] - passes.graphs[batch] == model.static_chunks_bytes(batch, capacity) > 0
    assert off.largest == 0


def test_the_experts_attention_plans_the_next_frame(bench: Make) -> None:
    """The tokens of each camera with most of it are recomputed, which are others than the text's."""
    text, expert = bench("adaptive"), bench("adaptive", relevance="expert")
    for one in (text, expert):
        one.see(0)
    own, other = expert.relevance("a"), text.relevance("a")
    delta = expert.see(1)
    plan = expert.core.cache.last_plan

    assert delta.report.cache.keyframe_reason is None
    assert plan is not None
    assert torch.equal(plan.relevant, own.relevant)
    assert [int(own.relevant[camera].sum()) for camera in (slice(256), slice(256, 512))] == [40, 40]
    for camera in (slice(256), slice(256, 512)):
        assert own.relevance.scores[camera][own.relevant[camera]].min() >= own.relevance.scores[camera].median()
    assert not own.relevant[plan.reused_patches].any()
    assert not torch.equal(own.relevant, other.relevant)


def test_the_experts_attention_stays_with_its_session(bench: Make) -> None:
    """Two robots side by side, prefixes of different lengths, a stateless frame between: what each has alone."""
    both = bench("adaptive", relevance="expert")
    both.answers(both.request(0, "a"), both.request(1, None), both.request(2, "b", 1, "pick up the black bowl"))
    one, other = bench("adaptive", relevance="expert"), bench("adaptive", relevance="expert")
    one.answers(one.request(0, "a"))
    other.answers(other.request(2, "b", 1, "pick up the black bowl"))

    for robot, alone in (("a", one), ("b", other)):
        expected = alone.relevance(robot).relevance.scores
        torch.testing.assert_close(both.relevance(robot).relevance.scores, expected, rtol=1e-4, atol=1e-7)
    apart = both.relevance("a").relevance.scores - both.relevance("b").relevance.scores
    assert apart.abs().max() > 1e-5


def test_a_refresh_asks_the_expert_again(bench: Make) -> None:
    """A delta frame's own drawing is not taken, for it saw stale keys; the dense pass after it is."""
    one, fresh = bench("adaptive", relevance="expert"), bench("adaptive", relevance="expert")
    one.see(0)
    before = one.relevance("a").relevance.scores
    one.see(1)
    assert torch.equal(one.relevance("a").relevance.scores, before)
    assert one.core.cache.next_refresh is not None
    refresh_idle_session(one.core, one.core.cache.next_refresh, lambda: False)
    fresh.see(1)

    expected = fresh.relevance("a").relevance.scores
    torch.testing.assert_close(one.relevance("a").relevance.scores, expected, rtol=1e-4, atol=1e-7)
    assert (expected - before).abs().max() > 1e-6


def test_the_published_method_takes_every_frames_drawing(bench: Make) -> None:
    """Delta frames' too, as in VLA-Cache; with its schedule there is an entropy of every layer of the expert."""
    one = bench("paper", relevance="expert", k=1.0)
    one.see(0)
    first = one.relevance("a").relevance
    one.see(1)
    second = one.relevance("a").relevance

    assert len(first.entropies) == len(second.entropies) == 3
    assert not torch.equal(first.scores, second.scores)


@pytest.mark.few(2)
@pytest.mark.parametrize(
    ("mode", "relevance"), [("off", "expert"), ("exact", "expert"), ("static-only", "expert"), ("adaptive", "text")]
)
def test_nothing_looks_on_where_no_plan_asks(
    bench: Make, monkeypatch: pytest.MonkeyPatch, mode: str, relevance: str
) -> None:
    """No probe of the expert is made, and no hook called, in whole frames, delta frames and refreshes."""
    watched: list[object] = []
    monkeypatch.setattr("stillframe.models.pi0.prefix.PrefixKV.watch", lambda _, hooks: watched.extend(hooks))
    one = bench(mode, relevance=relevance)
    one.answers(one.request(0, "a"), one.request(1, "b"))
    one.see(1)
    if one.core.cache.next_refresh is not None:
        refresh_idle_session(one.core, one.core.cache.next_refresh, lambda: False)

    assert watched
    assert {*watched} == {None}


@pytest.mark.parametrize("mode", PRUNING_MODES)
def test_modes_that_prune_are_refused(bench: Make, mode: ReuseMode) -> None:
    """At the start: the expert reads all of the prompt's keys."""
    with pytest.raises(ConfigError, match=f"reuse.mode is '{mode}', and .* has an action expert"):
        bench(mode)
