"""A policy that says a chunk of actions in one bidirectional pass, on the engine: the micro OpenVLA-OFT."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from stillframe.domain import (
    PRUNING_MODES,
    Image,
    KeyframeReason,
    Observation,
    ReuseMode,
    SessionRef,
    SlackReport,
    Step,
)
from stillframe.engine.core import EngineCore
from stillframe.engine.cuda_graphs import CaptureConfig, capture_graphs
from stillframe.engine.engine import Engine
from stillframe.engine.history import HistoryManager, untrained_weights
from stillframe.engine.local import LocalPolicy
from stillframe.engine.refresh import refresh_idle_session
from stillframe.engine.requests import FrameRequest
from stillframe.engine.settings import DecodingSettings, GraphSettings
from stillframe.engine.step import step
from stillframe.errors import ConfigError, Unprocessable
from stillframe.history.settings import HistorySettings
from stillframe.models.base import PolicyModel
from stillframe.models.registry import load_policy
from stillframe.reuse.pruning_settings import FastVSettings, SparseVLMSettings, ToMeSettings
from stillframe.reuse.settings import AdaptiveSettings, PaperSettings, ReuseSettings
from stillframe.testing import ManualClock

SPOON = "put the spoon on the towel"
HORIZON, DIMENSIONS, PATCHES = 8, 7, 512
STATES = np.linspace(-1, 1, 24).reshape(3, 8)
CLOSE = {"rtol": 0, "atol": 1e-5}
WAIT_S = 60
PRUNING = {
    "fastv": FastVSettings(1, 0.5),
    "sparsevlm": SparseVLMSettings([0], 40.0),
    "tome": ToMeSettings([0, 1], 0.25),
}


@pytest.fixture(scope="module")
def model(oft_folder: Path) -> PolicyModel:
    """Two pictures, a state, chunks of eight."""
    return load_policy(oft_folder, dtype=torch.float32, device=torch.device("cpu"))


@pytest.fixture(scope="module")
def discrete(oft_folder: Path) -> PolicyModel:
    """Of the same weights: one picture, no state, and tokens."""
    config = {"action_head": "discrete", "use_proprio": False, "cameras": ["image"], "num_actions_chunk": HORIZON}
    return load_policy(oft_folder, dtype=torch.float32, device=torch.device("cpu"), config=config)


@pytest.fixture(scope="module")
def shots() -> dict[str, list[Image]]:
    """Three frames of each camera: the second a little changed, the third another scene."""
    with np.load(Path(__file__).parents[1] / "goldens" / "oft-micro.npz") as record:
        scenes = {"image": record["frames"], "wrist": record["wrist_frames"]}
    made = {}
    for camera, (first, other) in scenes.items():
        second = first.copy()
        second[100:140, 60:90] = other[100:140, 60:90]
        made[camera] = [first, second, other]
    return made


class Bench:
    """An engine core on one thread, as the engine's drives it."""

    def __init__(
        self,
        model: PolicyModel,
        shots: dict[str, list[Image]],
        mode: Any,
        *,
        execute: int = 0,
        pruning: Any = PRUNING,
        **knobs: Any,
    ):
        adaptive = {"task_top_k": 40, "distance": 1.0, "scene_cut": 0.05} | knobs
        settings = ReuseSettings(
            mode=mode,
            drift_budget=2,
            adaptive=AdaptiveSettings(**adaptive),
            paper=PaperSettings(tau=0.9, task_top_k=40, k=None),
            **pruning,
        )
        self.clock = ManualClock(100.0)
        decoding = DecodingSettings(execute=execute)
        self.core = EngineCore.of(model, settings, self.clock, decoding=decoding, default_sessions=3)
        self.model, self.shots = model, shots
        self.places: dict[str, SessionRef] = {}

    def request(self, shot: int, robot: str | None = "a", state: int = 0) -> FrameRequest:
        """A robot's next frame."""
        images = {camera: self.shots[camera][shot] for camera in self.model.info.cameras}
        ref = None if robot is None else self.places.get(robot, SessionRef(robot))
        if ref is not None:
            self.places[ref.id] = replace(ref, seq=ref.seq + 1)
        return FrameRequest(Observation(images, SPOON, state=STATES[state]), ref)

    def answers(self, *requests: FrameRequest) -> list[Step]:
        """Compute frames side by side."""
        self.clock.now_s += 0.1
        answers = step(self.core, requests)
        for answer in answers:
            if not isinstance(answer, Step):
                raise answer
        return [answer for answer in answers if isinstance(answer, Step)]

    def see(self, shot: int, robot: str | None = "a", state: int = 0) -> Step:
        """Compute one frame."""
        return self.answers(self.request(shot, robot, state))[0]

    def refresh(self) -> SlackReport | None:
        """Refresh the session that is due."""
        session = self.core.cache.next_refresh
        return None if session is None else refresh_idle_session(self.core, session, lambda: False)


Make = Callable[..., Bench]


@pytest.fixture
def bench(model: PolicyModel, shots: dict[str, list[Image]]) -> Make:
    """Make one: `bench("adaptive")`."""
    return lambda mode, pruning=PRUNING, **knobs: Bench(model, shots, mode, pruning=pruning, **knobs)


def test_a_chunk_is_one_pass(bench: Make) -> None:
    """Eight actions of seven numbers, nothing decoded behind the prompt, nothing drafted."""
    step = bench("off").see(0)

    assert step.chunk.actions.shape == (HORIZON, DIMENSIONS)
    assert (step.report.passes, step.report.draft.mode, step.report.draft.accepted) == (1, "off", 0)
    assert step.report.cache.total_tokens == 1 + PATCHES + 1 + len(bench("off").model.prepare(
        bench("off").request(0).observation).ids) - 1 + HORIZON * DIMENSIONS + 1  # fmt: skip


@pytest.mark.parametrize("mode", ["adaptive", "paper", "static-only"])
def test_pictures_rows_are_reused_and_no_others(bench: Make, mode: str) -> None:
    """A delta frame near the dense answer; BOS, the state, the text and the action's places are always computed."""
    robots = bench(mode)
    robots.see(0)
    step = robots.see(1, state=1)
    plan, dense = robots.core.cache.last_plan, bench("off").see(1, state=1)

    assert plan is not None
    assert step.report.cache.frame == "delta"
    assert 0 < step.report.cache.reused_tokens <= PATCHES
    assert min(plan.order) >= 1
    assert max(plan.order) <= PATCHES
    assert step.report.cache.reused_tokens == len(plan.reused_patches)
    difference = np.abs(step.chunk.actions - dense.chunk.actions).max()
    assert 0 < difference < 1


def test_an_empty_reuse_set_gives_the_dense_answer(bench: Make) -> None:
    """Rule 1: where nothing stayed as it was, whatever the plan says, the chunk is the dense one's."""
    robots = bench("adaptive", scene_cut=0.0, distance=0.0)
    robots.see(0)
    step = robots.see(2, state=1)

    assert (step.report.cache.frame, step.report.cache.reused_tokens) == ("delta", 0)
    np.testing.assert_allclose(step.chunk.actions, bench("off").see(2, state=1).chunk.actions, **CLOSE)


def test_exact_reuses_nothing_and_says_why(bench: Make) -> None:
    """Every key depends on every row, so nothing stays exactly as it was; no slot of the pool is held for it."""
    robots = bench("exact")
    steps = [robots.see(0), robots.see(0)]

    assert [step.report.cache.keyframe_reason for step in steps] == [KeyframeReason.INEXACT] * 2
    assert [step.report.cache.mode for step in steps] == ["exact"] * 2
    assert robots.core.cache.usage.in_use_bytes == 0


def test_a_state_alone_changes_the_answer(bench: Make) -> None:
    """The same pictures with another state are another frame; with the same one they need no vision."""
    robots = bench("off")
    first, other, again = robots.see(0, state=0), robots.see(0, state=1), robots.see(0, state=1)

    assert np.abs(first.chunk.actions - other.chunk.actions).max() > 1e-3
    np.testing.assert_array_equal(other.chunk.actions, again.chunk.actions)


def test_two_robots_interleaved_are_what_each_is_alone(bench: Make) -> None:
    """Rule 8: chunks and reports, through keyframes, delta frames and refreshes."""
    walks = {"a": [(0, 0), (1, 1), (1, 2)], "b": [(2, 2), (2, 1), (0, 0)]}
    together = bench("adaptive")
    mixed: dict[str, list[Step]] = {"a": [], "b": []}
    for at in range(3):
        for robot, walk in walks.items():
            mixed[robot].append(together.see(walk[at][0], robot, walk[at][1]))
        while together.refresh():
            pass

    for robot, walk in walks.items():
        alone = bench("adaptive")
        for shot, own in zip(walk, mixed[robot], strict=True):
            expected = alone.see(shot[0], robot, shot[1])
            np.testing.assert_allclose(own.chunk.actions, expected.chunk.actions, **CLOSE)
            assert own.report.cache == expected.report.cache
            alone.refresh()


@pytest.mark.parametrize("mode", ["off", "adaptive"])
def test_frames_side_by_side_are_what_each_is_alone(bench: Make, mode: str) -> None:
    """A keyframe, a delta frame and a stateless one in one batch."""
    together, alone = bench(mode), bench(mode)
    for robots in (together, alone):
        robots.see(0, "a")
    batch = together.answers(together.request(1, "a", 1), together.request(2, "b", 2), together.request(0, None, 1))
    singly = [alone.see(1, "a", 1), alone.see(2, "b", 2), alone.see(0, None, 1)]

    assert [own.report.batch for own in batch] == [3] * 3
    for own, expected in zip(batch, singly, strict=True):
        np.testing.assert_allclose(own.chunk.actions, expected.chunk.actions, **CLOSE)
        assert own.report.cache == expected.report.cache


@pytest.mark.parametrize("mode", ["adaptive", *PRUNING_MODES])
def test_drift_is_measured_action_by_action(bench: Make, mode: ReuseMode) -> None:
    """An idle dense pass over the same frame: of each of the eight actions its worst number, and the worst of all."""
    robots = bench(mode)
    robots.see(0)
    robots.see(1, state=1)
    session = robots.core.cache.sessions.known("a")
    assert session is not None
    assert session.pending is not None
    assert session.pending.decoded is not None
    answered = session.pending.decoded.normalised
    report = robots.refresh()
    dense = bench("off").see(1, state=1).chunk.actions
    scale = robots.model.info.norm_stats["peer_tiny"]
    low, high, mask = (np.asarray(scale[name]) for name in ("q01", "q99", "mask"))
    units = np.where(mask, 2 * (dense - low) / (high - low) - 1, dense)

    assert report is not None
    np.testing.assert_allclose(report.by_action, np.abs(answered - units).max(axis=1), rtol=0, atol=1e-4)
    assert report.drift == max(report.by_action) > 0
    assert len(report.by_action) == HORIZON


def test_drift_is_held_to_the_budget_where_it_is_played(bench: Make) -> None:
    """Of a chunk whose first two actions are to be played, theirs is reported and steers; that of all is told too."""
    robots, whole = bench("adaptive", execute=2), bench("adaptive")
    for each in (robots, whole):
        each.see(0)
        each.see(1, state=1)
    report, every = robots.refresh(), whole.refresh()
    session = robots.core.cache.sessions.known("a")

    assert report is not None
    assert every is not None
    assert session is not None
    assert report.drift == session.last_drift == max(report.by_action[:2])
    assert report.by_action == pytest.approx(every.by_action)
    assert every.drift == max(every.by_action)


def test_after_a_refresh_the_session_goes_on_from_the_dense_pass(bench: Make) -> None:
    """The same frame again, all of it reused that may be: the dense answer."""
    robots = bench("adaptive")
    robots.see(0)
    robots.see(1)
    robots.refresh()
    again, dense = robots.see(1), bench("off").see(1)

    assert again.report.cache.frame == "delta"
    np.testing.assert_allclose(again.chunk.actions, dense.chunk.actions, rtol=0, atol=1e-4)


def test_tokens_of_a_chunk_are_refreshed_without_a_draft(discrete: PolicyModel, shots: dict[str, list[Image]]) -> None:
    """They are all said by one pass: none of them goes behind the prompt, in an answer or in a refresh."""
    robots = Bench(discrete, shots, "adaptive")
    steps = [robots.see(0), robots.see(1)]
    report = robots.refresh()

    assert [len(step.chunk.tokens) for step in steps] == [HORIZON * DIMENSIONS] * 2
    assert [step.report.passes for step in steps] == [1, 1]
    assert report is not None
    assert len(report.by_action) == HORIZON


def test_older_frames_are_refused_with_the_reason(oft_folder: Path, model: PolicyModel) -> None:
    """Chunks have no history; nor has a bidirectional pass that says one action."""
    settings = HistorySettings(enabled=True, force=True, gate="recency")
    one = load_policy(oft_folder, dtype=torch.float32, device=torch.device("cpu"), config={"num_actions_chunk": 1})
    for policy, said in ((model, "answers with 8 actions at once"), (one, "pictures attend to the text")):
        with pytest.raises(ConfigError, match=said):
            HistoryManager(policy, untrained_weights(policy, settings), settings, ManualClock(0.0))


@pytest.mark.parametrize("section", ["adaptive", "paper"])
def test_without_an_action_expert_none_is_asked(model: PolicyModel, section: str) -> None:
    """A deployment that asks for one is refused before its first frame: which setting, why, and what to do."""
    chosen = {"adaptive": AdaptiveSettings(relevance="expert"), "paper": PaperSettings(relevance="expert")}[section]
    settings = ReuseSettings(**{section: chosen})  # type: ignore[arg-type]
    said = rf"reuse\.{section}\.relevance is 'expert', .*oft.* no action expert .*; leave it out"
    with pytest.raises(ConfigError, match=said):
        EngineCore.of(model, settings, ManualClock(0.0))


def test_captured_passes_are_the_eager_ones(bench: Make) -> None:
    """Keyframes and delta frames are replayed, whatever is beside them; a refresh, which yields, is not."""

    def play(compute: Callable[[], None]) -> Callable[[], None]:
        compute()
        return compute

    eager, graphed = bench("adaptive"), bench("adaptive")
    core = graphed.core
    config = CaptureConfig(GraphSettings(batches=[1, 2], rows=[256, 448]), 2, 64)
    core.runner = capture_graphs(core.model, core.cache.slots.pool, config, play)
    for robots in (eager, graphed):
        robots.see(0, "a")
        robots.refresh()
    for shots in (((1, "a", 1), (2, "b", 2)), ((1, "a", 2), (2, "b", 0))):
        one = eager.answers(*(eager.request(*shot) for shot in shots))
        other = graphed.answers(*(graphed.request(*shot) for shot in shots))
        for expected, own in zip(one, other, strict=True):
            np.testing.assert_allclose(own.chunk.actions, expected.chunk.actions, **CLOSE)
            assert own.report.cache == expected.report.cache

    assert core.runner.counts is not None
    assert core.runner.counts.replays > 0
    assert sum(core.runner.counts.eager.values()) == 0


def test_a_daemon_warms_up_and_refuses_a_frame_without_a_state(
    model: PolicyModel, shots: dict[str, list[Image]]
) -> None:
    """A blank frame has one; a client's needs one, and is told what is in it."""
    engine = Engine(
        model,
        reuse=ReuseSettings(),
        queue_frames=4,
        clock=time.perf_counter,
        log=logging.getLogger("chunks"),
        on_refresh=lambda _: None,
    )
    try:
        engine.warm_up()
        images = {camera: frames[0] for camera, frames in shots.items()}
        answer = engine.submit(Observation(images, SPOON, state=STATES[0]), 1e6).result(WAIT_S)
        refused = engine.submit(Observation(images, SPOON), 1e6)

        assert answer.chunk.actions.shape == (HORIZON, DIMENSIONS)
        with pytest.raises(Unprocessable, match=r"send 8 numbers: x \[m\], y \[m\]") as caught:
            refused.result(WAIT_S)
        assert (caught.value.code, caught.value.pointer) == ("missing-state", "/state")
    finally:
        engine.close()


def test_a_function_takes_a_state_as_well(model: PolicyModel, shots: dict[str, list[Image]]) -> None:
    """Its first action is the one due now."""
    images = {camera: frames[0] for camera, frames in shots.items()}
    policy = LocalPolicy(model)
    action = policy({"images": images, "instruction": SPOON, "state": STATES[0]})

    np.testing.assert_array_equal(action, policy.last.chunk.actions[0])


@pytest.mark.parametrize("mode", PRUNING_MODES)
def test_modes_that_prune_leave_out_rows_of_pictures_alone(bench: Make, mode: ReuseMode) -> None:
    """Another chunk than the dense one, the same again, and a share of token-layers that says how many are left."""
    robots = bench(mode)
    steps = [robots.see(0), robots.see(0)]
    dense, cache = bench("off").see(0), steps[0].report.cache
    pruned = robots.core.cache.last_pruned

    assert cache.keyframe_reason is KeyframeReason.PRUNED
    assert 0 < max(pruned) < PATCHES
    assert [*pruned] == sorted(pruned)
    assert cache.pruned_ratio == sum(pruned) / (len(pruned) * cache.total_tokens)
    assert 1e-4 < np.abs(steps[0].chunk.actions - dense.chunk.actions).max() < 1
    np.testing.assert_array_equal(steps[0].chunk.actions, steps[1].chunk.actions)


@pytest.mark.parametrize(("mode", "nothing"), [("fastv", FastVSettings(1, 0.0)), ("tome", ToMeSettings([0], 0.0))])
def test_modes_that_prune_nothing_give_the_dense_answer(bench: Make, mode: str, nothing: Any) -> None:
    """A ratio of 0; SparseVLM has none, and always leaves out a token."""
    step, dense = bench(mode, {mode: nothing}).see(0), bench("off").see(0)

    assert step.report.cache.pruned_ratio == 0
    np.testing.assert_allclose(step.chunk.actions, dense.chunk.actions, **CLOSE)


@pytest.mark.parametrize("mode", PRUNING_MODES)
def test_pruned_frames_side_by_side_are_what_each_is_alone(bench: Make, mode: ReuseMode) -> None:
    """Two robots' pictures lose other rows; a third frame in their pass loses none."""
    together = bench(mode)
    requests = [together.request(0, "a"), together.request(2, "b", 1)]
    whole = FrameRequest(together.request(1, "c").observation, SessionRef("c", mode="off"))
    steps = together.answers(*requests, whole)
    singles = [bench(mode).see(0), bench(mode).see(2, state=1), bench("off").see(1)]

    for own, alone in zip(steps, singles, strict=True):
        np.testing.assert_allclose(own.chunk.actions, alone.chunk.actions, **CLOSE)
        assert own.report.cache.pruned_ratio == alone.report.cache.pruned_ratio
