"""A policy whose chunk a diffusion head draws after one causal pass, on the engine: the micro CogACT."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from stillframe.domain import KeyframeReason, Observation, ReuseMode, SessionRef, SlackReport, Step
from stillframe.engine.core import EngineCore
from stillframe.engine.cuda_graphs import CaptureConfig, capture_graphs
from stillframe.engine.history import HistoryManager, untrained_weights
from stillframe.engine.refresh import refresh_idle_session
from stillframe.engine.requests import FrameRequest
from stillframe.engine.settings import DecodingSettings, GraphSettings
from stillframe.engine.step import step
from stillframe.errors import ConfigError
from stillframe.history.settings import HistorySettings
from stillframe.models.base import PolicyModel
from stillframe.models.registry import load_policy
from stillframe.reuse.settings import AdaptiveSettings, PaperSettings, ReuseSettings

HORIZON, DIMENSIONS, PATCHES, KEY = 16, 7, 256, "bridge_orig"
CLOSE = {"rtol": 0, "atol": 1e-4}
NOISE = np.random.default_rng(7).integers(0, 255, (2, 224, 224, 3), np.uint8)


@pytest.fixture(scope="module")
def model(cogact_folder: Path) -> PolicyModel:
    """One picture, chunks of sixteen."""
    return load_policy(cogact_folder, dtype=torch.float32, device=torch.device("cpu"))


def picture(place: int) -> np.ndarray:
    """A square that moves over a still scene; a negative place is another scene."""
    shown = NOISE[int(place < 0)].copy()
    shown[28:70, 14 * abs(place) : 14 * abs(place) + 42] = 128
    return shown


class Robots:
    """An engine core on one thread, as the engine's drives it."""

    def __init__(self, model: PolicyModel, mode: ReuseMode):
        knobs = AdaptiveSettings(distance=1.0, scene_cut=0.05, task_top_k=20)
        paper = PaperSettings(tau=0.9, task_top_k=20, k=None)
        reuse = ReuseSettings(mode=mode, drift_budget=2, adaptive=knobs, paper=paper)
        self.core = EngineCore.of(model, reuse, time.perf_counter, default_sessions=3)
        self._places: dict[str, SessionRef] = {}

    def request(self, place: int, robot: str | None = "a") -> FrameRequest:
        """A robot's next frame."""
        ref = None if robot is None else self._places.get(robot, SessionRef(robot))
        if ref is not None:
            self._places[ref.id] = replace(ref, seq=ref.seq + 1)
        return FrameRequest(Observation({"image": picture(place)}, "put the spoon on the towel", KEY), ref)

    def answers(self, *requests: FrameRequest) -> list[Step]:
        """Compute frames side by side."""
        answers = [answer for answer in step(self.core, requests) if isinstance(answer, Step)]
        assert len(answers) == len(requests)
        return answers

    def see(self, place: int, robot: str | None = "a") -> Step:
        """Compute one frame."""
        return self.answers(self.request(place, robot))[0]

    def refresh(self) -> SlackReport | None:
        """Refresh the session that is due."""
        session = self.core.cache.next_refresh
        return None if session is None else refresh_idle_session(self.core, session, lambda: False)


@pytest.mark.few(2)
@pytest.mark.parametrize("mode", ["off", "exact", "adaptive", "paper", "static-only"])
def test_every_mode_does_what_it_says(model: PolicyModel, mode: ReuseMode) -> None:
    """Sixteen actions out of one pass; exact reuses BOS alone and draws the dense chunk; the others reuse patches."""
    robots, dense = Robots(model, mode), Robots(model, "off")
    first, second = robots.see(0), robots.see(1)
    expected = [dense.see(0), dense.see(1)][1].chunk.actions
    cache, moved = second.report.cache, np.abs(second.chunk.actions - expected).max()

    assert first.chunk.actions.shape == (HORIZON, DIMENSIONS)
    assert (second.report.passes, second.report.draft.mode, cache.mode) == (1, "off", mode)
    if mode == "off":
        assert cache.keyframe_reason is KeyframeReason.OFF
    elif mode == "exact":
        assert (cache.frame, cache.reused_tokens) == ("delta", 1)
    else:
        assert cache.frame == "delta"
        assert 1 < cache.reused_tokens <= 1 + PATCHES
        assert 0 < moved < 2
    if mode in ("off", "exact"):
        np.testing.assert_allclose(second.chunk.actions, expected, **CLOSE)


@pytest.mark.parametrize("mode", ["off", "adaptive"])
def test_robots_side_by_side_are_what_each_is_alone(model: PolicyModel, mode: ReuseMode) -> None:
    """A delta frame, a keyframe of another session and a stateless one, each by its own noise."""
    together, alone = Robots(model, mode), Robots(model, mode)
    for robots in (together, alone):
        robots.see(0, "a")
    batch = together.answers(together.request(1, "a"), together.request(-2, "b"), together.request(0, None))
    singly = [alone.see(1, "a"), alone.see(-2, "b"), alone.see(0, None)]

    assert [own.report.batch for own in batch] == [3] * 3
    for own, expected in zip(batch, singly, strict=True):
        np.testing.assert_allclose(own.chunk.actions, expected.chunk.actions, **CLOSE)
        assert expected.report.cache.bit_equal
        assert own.report.cache == replace(expected.report.cache, bit_equal=False)  # drawn in one batch


def test_a_pause_measures_each_action_and_renews_what_is_reused(model: PolicyModel) -> None:
    """Drift is by the frame's own noise: of the picture alone. The same picture next is then the dense answer."""
    robots, dense = Robots(model, "adaptive"), Robots(model, "off")
    for place in (0, 1):
        robots.see(place)
    report = robots.refresh()
    again = robots.see(1)
    expected = [dense.see(place) for place in (0, 1, 1)][2].chunk.actions

    assert report is not None
    assert len(report.by_action) == HORIZON
    assert report.drift == max(report.by_action) > 0
    assert again.report.cache.frame == "delta"
    np.testing.assert_allclose(again.chunk.actions, expected, **CLOSE)


def test_captured_passes_are_the_eager_ones(model: PolicyModel) -> None:
    """Keyframes and delta frames are replayed, alone and side by side: none is left to the eager way."""

    def play(compute: Callable[[], None]) -> Callable[[], None]:
        compute()
        return compute

    eager, graphed = Robots(model, "adaptive"), Robots(model, "adaptive")
    core = graphed.core
    config = CaptureConfig(GraphSettings(batches=[1, 2], rows=[64, 160]), 2, 64)
    core.runner = capture_graphs(core.model, core.cache.slots.pool, config, play)
    for frames in (((0, "a"),), ((1, "a"), (-2, "b")), ((2, "a"), (-3, "b"))):
        one = eager.answers(*(eager.request(*frame) for frame in frames))
        other = graphed.answers(*(graphed.request(*frame) for frame in frames))
        for expected, own in zip(one, other, strict=True):
            np.testing.assert_allclose(own.chunk.actions, expected.chunk.actions, **CLOSE)
            assert own.report.cache == expected.report.cache

    assert core.runner.counts is not None
    assert core.runner.counts.replays > 0
    assert sum(core.runner.counts.eager.values()) == 0


def test_what_would_do_nothing_is_refused(model: PolicyModel, oft_folder: Path, golden_model: PolicyModel) -> None:
    """Older frames, and guesses that may stand, with the reason; a policy that decodes tokens takes the latter."""
    settings: Any = HistorySettings(enabled=True, force=True, gate="recency")
    relaxed = DecodingSettings(draft="relaxed")
    chunked = load_policy(oft_folder, dtype=torch.float32, device=torch.device("cpu"))
    with pytest.raises(ConfigError, match="answers with 16 actions at once"):
        HistoryManager(model, untrained_weights(model, settings), settings, time.perf_counter)
    for policy in (model, chunked):
        with pytest.raises(ConfigError, match=r"decoding\.draft is 'relaxed', and .* decodes no tokens one by one"):
            EngineCore.of(policy, ReuseSettings(), time.perf_counter, decoding=relaxed)
        core = EngineCore.of(policy, ReuseSettings(), time.perf_counter, decoding=DecodingSettings(draft="strict"))
        assert core.info(policy.info).draft == "off"

    assert EngineCore.of(golden_model, ReuseSettings(), time.perf_counter, decoding=relaxed).model is golden_model
