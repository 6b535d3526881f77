"""Calibration of policies that say a chunk: by one pass in which all rows see all, or by a diffusion head."""

from __future__ import annotations

import logging
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from stillframe.domain import ActionChunk, CacheReport, KeyframeReason, Observation, SessionRef, Step, StepReport
from stillframe.engine.answers import ChunkAnswers
from stillframe.engine.core import EngineCore
from stillframe.engine.refresh import refresh_idle_session
from stillframe.engine.requests import FrameRequest
from stillframe.engine.session_state import ScheduledFrame
from stillframe.engine.step import step
from stillframe.errors import StillframeError
from stillframe.models.base import PolicyModel
from stillframe.models.expert_probe import ExpertAttentionProbe
from stillframe.models.llama.attention_probe import TextAttentionProbe
from stillframe.models.registry import load_policy
from stillframe.recording.frame import RecordedFrame
from stillframe.recording.pictures import encode_picture
from stillframe.recording.reader import read_episodes
from stillframe.recording.recorder import Recorder
from stillframe.reuse.plan import ReusePlan
from stillframe.reuse.settings import AdaptiveSettings, ReuseSettings
from stillframe.tools.calibration.replay import EpisodeReplay
from stillframe.tools.calibration.search import calibrate

KNOBS = AdaptiveSettings(distance=0.5, top_k=256, task_top_k=20, scene_cut=0.05, age_limit=2)
PERIOD_S = 0.1
GOLDENS = Path(__file__).parents[2] / "goldens"


@pytest.fixture(scope="module", params=["oft", "cogact"])
def model(request: pytest.FixtureRequest, oft_folder: Path, cogact_folder: Path) -> PolicyModel:
    """Two pictures and a state in, or one picture; chunks of 8, or of 16."""
    folder = oft_folder if request.param == "oft" else cogact_folder
    return load_policy(folder, dtype=torch.float32, device=torch.device("cpu"))


def played(model: PolicyModel, frames: int = 4, epoch: int = 0) -> list[RecordedFrame]:
    """A square that moves over noise, and a state that moves with it."""
    noise = np.random.default_rng(epoch)
    still = {camera: noise.integers(0, 255, (224, 224, 3), np.uint8) for camera in model.info.cameras}
    made = []
    for number in range(frames):
        views = {camera: picture.copy() for camera, picture in still.items()}
        for picture in views.values():
            picture[28:70, 14 * number : 14 * number + 42] = 128
        state = None if model.info.state is None else np.linspace(-1, 0.1 * number, len(model.info.state.names))
        seen = Observation(views, "put the spoon on the towel", next(iter(model.info.norm_stats)), state=state)
        cache = CacheReport("off", None if number else KeyframeReason.FIRST_FRAME, 0.0, 0, 1, 0, 0, epoch, number)
        shape = model.info.chunk_horizon, len(model.info.action_names)
        answer = Step(ActionChunk(np.zeros(shape), "any"), StepReport({"queue": 0.0}, 1, cache))
        made.append(RecordedFrame(1e9 + 100 * epoch + PERIOD_S * number, seen, answer))
    return made


def served(model: PolicyModel, frames: list[RecordedFrame]) -> tuple[list[float], list[float | None]]:
    """What a daemon does with them, pauses included: reuse of each frame, and the drift of each delta frame."""
    settings = ReuseSettings(mode="adaptive", drift_budget=2.0, adaptive=KNOBS)
    now_s = [0.0]
    core, ratios, drifts = EngineCore.of(model, settings, lambda: now_s[0]), [], []
    for number, frame in enumerate(frames):
        now_s[0] = frame.submitted_s
        (answer,) = step(core, [FrameRequest(frame.observation, SessionRef("arm", seq=number))])
        assert isinstance(answer, Step)
        ratios.append(answer.report.cache.reuse_ratio)
        session = core.cache.next_refresh
        report = None if session is None else refresh_idle_session(core, session, lambda: False)
        drifts += [] if report is None else [report.drift]
    return ratios, drifts


def nothing() -> None:
    """No progress is shown."""


def test_a_replay_is_what_a_daemon_does(model: PolicyModel) -> None:
    """The same reuse and, but for a diffusion head's noise, the same drift; without pauses nothing is missing."""
    frames = played(model)
    replay = EpisodeReplay(model, ReuseSettings())
    replay.add(frames, nothing)
    (paused,) = replay.with_slack([KNOBS], nothing)
    restless = replay.without_slack(KNOBS, nothing)
    ratios, drifts = served(model, frames)

    assert paused.ratios == ratios
    assert min(paused.ratios[1:]) > 0.05
    assert len(paused.drifts) == len(drifts) == len(restless.drifts) == len(frames) - 1
    assert 0 < max(paused.drifts) < 2
    if model.info.state is not None:
        assert paused.drifts == pytest.approx(drifts, abs=1e-4)


def test_the_same_frame_drifts_by_nothing(model: PolicyModel) -> None:
    """Out of a dense pass over the same picture all that is reused is what would have been computed."""
    first, *_ = played(model)
    replay = EpisodeReplay(model, ReuseSettings())
    replay.add([first, replace(first, submitted_s=first.submitted_s + PERIOD_S)], nothing)
    (paused,) = replay.with_slack([KNOBS], nothing)

    assert paused.ratios[1] > 0.05
    assert paused.drifts == pytest.approx([0.0], abs=1e-4)


def test_what_is_not_played_drifts_unseen(model: PolicyModel) -> None:
    """Where a robot plays one action of each chunk, that one's drift alone is what a candidate is judged by."""
    frames = played(model)
    every, first = (
        EpisodeReplay(model, ReuseSettings(), answers) for answers in (ChunkAnswers(), ChunkAnswers(execute=1))
    )
    for replay in (every, first):
        replay.add(frames, nothing)
    (all_actions,), (one_action,) = every.with_slack([KNOBS], nothing), first.with_slack([KNOBS], nothing)

    assert one_action.ratios == all_actions.ratios
    assert all(one <= all_of_it for one, all_of_it in zip(one_action.drifts, all_actions.drifts, strict=True))
    assert one_action.drifts != all_actions.drifts


@pytest.mark.parametrize("relevance", ["text", "expert"])
def test_candidates_are_planned_by_the_attention_that_they_name(relevance: Any) -> None:
    """Of a policy that has an action expert: a plan leaves out what its probe of the frame before found."""
    policy = load_policy(GOLDENS / "pi0" / "pi0-micro", dtype=torch.float32, device=torch.device("cpu"))
    replay, knobs = EpisodeReplay(policy, ReuseSettings()), replace(KNOBS, relevance=relevance)
    replay.add(played(policy, 2), nothing)
    plans: list[ReusePlan] = []
    plan = replay._scheduler.plan

    def noted(frame: ScheduledFrame, *state: Any) -> None:
        plan(frame, *state)
        plans.append(frame.plan)

    replay._scheduler.plan = noted  # type: ignore[method-assign]
    replay.with_slack([knobs], nothing)
    first = replay.frames[0].frame
    with torch.inference_mode():
        dense = replay._whole(replay._with(first, knobs))
        dense.probe = replay._scheduler.probe(dense)
        replay._pass(dense, replay._storage())
        assert dense.probe is not None
        attended = dense.attended(dense.probe.relevance(dense.kv))

    assert attended is not None
    assert torch.equal(plans[1].relevant, attended.relevant)
    assert isinstance(dense.probe, {"text": TextAttentionProbe, "expert": ExpertAttentionProbe}[relevance])


class Silent:
    """A reporter that shows nothing."""

    def stage(self, name: str, steps: int) -> None:
        """A stage begins."""

    def advance(self) -> None:
        """A step is done."""


def test_a_recording_calibrates(model: PolicyModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """From the recorder's files, the state among them, to settings within the budget."""
    recorder = Recorder(tmp_path, max_bytes=2**30, log=logging.getLogger("test"), pending_frames=100)
    for epoch in range(2):
        for frame in played(model, 3, epoch):
            recorder.keep("arm", model.info.name, frame)
    recorder.close()
    monkeypatch.setattr("stillframe.tools.calibration.search.initial_grid", lambda *_: [KNOBS])
    monkeypatch.setattr("stillframe.tools.calibration.search.neighbours", lambda *_: [])
    monkeypatch.setattr("stillframe.tools.calibration.search.AGE_LIMITS", (1,))
    recorded: Any = read_episodes(tmp_path, pytest.fail)
    found = calibrate(model, ReuseSettings(), recorded, budget=1.5, frames=6, warn=pytest.fail, report=Silent())

    assert found.with_slack.reuse > 0.05
    assert (found.episodes, found.settings.mode) == (2, "adaptive")


def test_a_recording_without_pictures_is_refused_with_what_to_record(model: PolicyModel) -> None:
    """Which frame, and how its daemon was told to record."""
    first, *_ = played(model)
    images = first.observation.images
    missing = {camera: encode_picture(camera, picture, "hash")[0] for camera, picture in images.items()}
    bare = replace(first, observation=replace(first.observation, images={}), missing=missing)
    with pytest.raises(StillframeError, match=r"frame 000000 has no picture of .*'hash'.*--record-images png"):
        EpisodeReplay(model, ReuseSettings()).add([bare], nothing)


def test_a_recording_without_a_state_is_refused_with_the_reason(model: PolicyModel) -> None:
    """Where the checkpoint reads one: which frame, what is read, and what to record."""
    first, second, *_ = played(model)
    bare = replace(second, observation=replace(second.observation, state=None))
    replay = EpisodeReplay(model, ReuseSettings())
    if model.info.state is None:
        replay.add([first, bare], nothing)
        return
    with pytest.raises(StillframeError, match=r"frame 000001: .*8 numbers: x \[m\].*; recordings hold the state where"):
        replay.add([first, bare], nothing)
