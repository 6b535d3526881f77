"""A recording through a checkpoint again: the same answers from the same policy, and drift as /metrics has it."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from stillframe.daemon.config import DaemonConfig, load_config
from stillframe.domain import ActionChunk, Observation, ReuseMode, SessionRef, SlackReport
from stillframe.engine.drift import chunk_distances
from stillframe.engine.local import LocalPolicy
from stillframe.errors import StillframeError
from stillframe.models.base import PolicyModel
from stillframe.models.registry import load_policy
from stillframe.recording.frame import RecordedFrame
from stillframe.recording.pictures import PictureFormat
from stillframe.recording.reader import read_episodes
from stillframe.recording.recorder import Recorder
from stillframe.reuse.settings import AdaptiveSettings, ReuseSettings
from stillframe.testing import policy_info
from stillframe.tools.replay.compare import ReplayOptions, replay
from stillframe.tools.replay.drift import ReplayReport
from stillframe.tools.replay.player import Player, PlayerSettings

KNOBS = {"distance": 0.5, "top_k": 256, "task_top_k": 20, "scene_cut": 0.05, "age_limit": 2}
REUSE = ReuseSettings(mode="adaptive", drift_budget=2.0, adaptive=AdaptiveSettings(**KNOBS))
EPISODES, FRAMES = 2, 3


@pytest.fixture(scope="module", params=["oft", "cogact"])
def folder(request: pytest.FixtureRequest, oft_folder: Path, cogact_folder: Path) -> Path:
    """Two pictures and a state in, chunks of 8; or one picture, chunks of 16 by a diffusion that begins with noise."""
    return oft_folder if request.param == "oft" else cogact_folder


@pytest.fixture(scope="module")
def model(folder: Path) -> PolicyModel:
    """Of that folder."""
    return load_policy(folder, dtype=torch.float32, device=torch.device("cpu"))


def seen(model: PolicyModel, episode: int, number: int) -> Observation:
    """A square that moves over noise, and a state that moves with it."""
    noise = np.random.default_rng(episode)
    views = {camera: noise.integers(0, 255, (224, 224, 3), np.uint8) for camera in model.info.cameras}
    for picture in views.values():
        picture[28:70, 14 * number : 14 * number + 42] = 128
    state = None if model.info.state is None else np.linspace(-1, 0.1 * number, len(model.info.state.names))
    return Observation(views, "put the spoon on the towel", next(iter(model.info.norm_stats)), state=state)


Served = list[tuple[RecordedFrame, SlackReport | None]]


def served(model: PolicyModel) -> Served:
    """What a daemon with pauses answers to two episodes of one robot, and what its idle refreshes measured."""
    now_s = [0.0]
    policy = LocalPolicy(model, REUSE, lambda: now_s[0])
    frames: Served = []
    for episode in range(EPISODES):
        for number in range(FRAMES):
            now_s[0] = 1e9 + 100 * episode + 0.1 * number
            observation = seen(model, episode, number)
            step = policy.answer(observation, SessionRef("arm", episode, number))
            frames.append((RecordedFrame(now_s[0], observation, step), policy.refresh()))
    return frames


@pytest.fixture(scope="module")
def recorded(model: PolicyModel) -> Served:
    """Of this model."""
    return served(model)


def stored(root: Path, frames: list[RecordedFrame], images: PictureFormat = "png") -> Path:
    """On disk."""
    recorder = Recorder(root, max_bytes=2**30, log=logging.getLogger("test"), images=images)
    for frame in frames:
        recorder.keep("arm", "served", frame)
    recorder.close()
    return root


@pytest.fixture
def recording(tmp_path: Path, recorded: Served) -> Path:
    """On disk."""
    return stored(tmp_path / "recording", [frame for frame, _ in recorded])


def deployed(folder: Path, reuse: ReuseSettings = REUSE) -> DaemonConfig:
    """On one thread."""
    overrides = {"checkpoint": folder, "device": "cpu", "dtype": "float32", "threads": 1}
    return load_config(None, overrides).model_copy(update={"reuse": reuse})


def played(folder: Path, recording: Path, mode: ReuseMode | None = None, **options: Any) -> ReplayReport:
    """A replay of all of it."""
    episodes = read_episodes(recording, pytest.fail)
    asked = ReplayOptions(mode, **options)
    return replay(deployed(folder), episodes, asked, warn=pytest.fail, advance=lambda: None)


def test_the_same_policy_answers_the_same(folder: Path, recording: Path, recorded: Served) -> None:
    """Reuse, keyframes and their reasons, chance and actions: nothing drifts."""
    report = played(folder, recording)
    caches = [(frame.recorded.report.cache, frame.replayed.report.cache) for frame in report.frames]

    assert len(report.frames) == len(recorded) == EPISODES * FRAMES
    assert [(was.keyframe_reason, was.reuse_ratio) for was, _ in caches] == [
        (now.keyframe_reason, now.reuse_ratio) for _, now in caches
    ]
    assert max(was.reuse_ratio for was, _ in caches) > 0.05
    assert report.summary.most == pytest.approx(0, abs=1e-5)


def test_drift_is_what_metrics_say(folder: Path, recording: Path, recorded: Served) -> None:
    """Played densely, a delta frame's drift is what the daemon's own dense pass measured of it."""
    report = played(folder, recording, "off")
    measured = [refresh for _, refresh in recorded]
    deltas = [(one, two) for one, two in zip(report.frames, measured, strict=True) if two is not None]

    assert len(deltas) == EPISODES * (FRAMES - 1)
    assert [frame.drift for frame, _ in deltas] == pytest.approx([two.drift for _, two in deltas], abs=1e-4)
    assert [frame.distances.max(axis=1) for frame, _ in deltas] == [
        pytest.approx(np.array(two.by_action), abs=1e-4) for _, two in deltas
    ]
    assert min(two.drift or 0 for _, two in deltas) > 1e-3
    assert all(frame.own_drift is None for frame in report.frames)


def test_without_pauses_nothing_is_refreshed(folder: Path, recording: Path) -> None:
    """The next frame reuses older keys and values."""
    paused, busy = (played(folder, recording, pauses=pauses) for pauses in (True, False))
    ages = [[frame.replayed.report.cache.age_max for frame in report.frames] for report in (paused, busy)]

    assert max(ages[0]) < max(ages[1])
    assert [frame.own_drift for frame in busy.frames] == [None] * len(busy.frames)
    assert any(frame.own_drift for frame in paused.frames)


def test_at_most_so_many_frames_are_played(folder: Path, recording: Path) -> None:
    """From the first on."""
    report = played(folder, recording, frames=4)

    assert [(one.epoch, one.seq) for frame in report.frames if (one := frame.replayed.report.cache)] == [
        *((0, 0), (0, 1), (0, 2)),
        (1, 0),
    ]


def test_statistics_that_a_checkpoint_lacks_are_replaced(model: PolicyModel, recorded: Served, tmp_path: Path) -> None:
    """By those of the deployment; a crop that is configured wins over the recorded one."""
    key = next(iter(model.info.norm_stats))
    strangers = [replace(frame, observation=replace(frame.observation, unnorm_key="lab")) for frame, _ in recorded]
    episodes = read_episodes(stored(tmp_path, strangers), pytest.fail)
    settings = PlayerSettings(unnorm_key=key, center_crop=0.5)
    answers = [one.answer for one in Player(model, REUSE, settings).play(episodes, pytest.fail)]
    plain = [one.answer for one in Player(model, REUSE, PlayerSettings(unnorm_key=key)).play(episodes, pytest.fail)]

    assert {answer.chunk.unnorm_key for answer in answers} == {key}
    assert not np.allclose(answers[0].chunk.actions, plain[0].chunk.actions, atol=1e-6)
    with pytest.raises(StillframeError, match=r"cannot answer what was recorded, frame 000000 of session arm: .*lab"):
        list(Player(model, REUSE, PlayerSettings(unnorm_key="lab")).play(episodes, pytest.fail))


def test_cameras_of_another_name_are_told_by_the_deployment(
    model: PolicyModel, recorded: Served, tmp_path: Path
) -> None:
    """Recorded under the names of another policy; where they are the checkpoint's own, nothing is renamed."""
    others = {camera: f"{camera} of the lab" for camera in model.info.cameras}

    def renamed(frame: RecordedFrame) -> RecordedFrame:
        images = {others[camera]: picture for camera, picture in frame.observation.images.items()}
        return replace(frame, observation=replace(frame.observation, images=images))

    plain = read_episodes(stored(tmp_path / "plain", [frame for frame, _ in recorded]), pytest.fail)
    strange = read_episodes(stored(tmp_path / "strange", [renamed(frame) for frame, _ in recorded]), pytest.fail)
    settings = PlayerSettings(cameras=others)
    answers = [
        [one.answer.chunk.actions.tolist() for one in Player(model, REUSE, settings).play(episodes, pytest.fail)]
        for episodes in (plain, strange)
    ]

    assert answers[0] == answers[1]
    assert len(answers[0]) == EPISODES * FRAMES


def test_a_recording_without_pictures_is_refused(folder: Path, recorded: Served, tmp_path: Path) -> None:
    """And says what to record."""
    stored(tmp_path, [frame for frame, _ in recorded], images="hash")
    with pytest.raises(StillframeError, match=r"frame 000000 has no picture of .*'hash'.*--record-images png"):
        played(folder, tmp_path)


def test_the_command_says_whether_it_may_be_rolled_out(
    typed: Callable[..., tuple[int, str, str]], folder: Path, recording: Path, tmp_path: Path
) -> None:
    """By its exit status, a chart, and all figures as JSON."""
    asked = ["replay", recording, "--checkpoint", folder, "--dtype", "float32", "--threads", 1]
    fine, *printed = typed(*asked, "--max-drift", 2, "--json", tmp_path / "a.json", "--chart", tmp_path / "a.png")
    found = json.loads((tmp_path / "a.json").read_text())
    worst = max(frame["drift"] for frame in found["frames"])
    bad, *why = typed(*asked, "--max-drift", worst / 2, "--max-drift-p90", 0)
    complaint = "".join(why).replace("\n", " ")

    assert fine == 0
    assert "all frames" in "".join(printed)
    assert "quarter 4 of the chunk" in "".join(printed)
    assert (found["format"], found["mode"], found["drift"]["frames"]) == ("stillframe-replay/1", "off", 6)
    assert found["drift"]["most"] == worst == max(one["most"] for one in found["by_dimension"].values())
    assert max(max(frame["by_quarter"]) for frame in found["frames"]) == worst
    assert found["frames"][4]["recorded"]["frame"] == "delta"
    assert (tmp_path / "a.png").read_bytes().startswith(b"\x89PNG")
    assert bad == 1
    assert f"frames drift beyond {worst / 2:g}, the worst by {worst:.4f}; drift p90 is" in complaint


INFO = policy_info(
    norm_stats={"jaco": {"q01": [-1.0, 0.0, 5.0], "q99": [3.0, 0.5, 5.0], "mask": [True, False, True]}},
    default_unnorm_key="jaco",
)


def test_distances_are_in_half_ranges() -> None:
    """Of a dimension that is scaled and varies; of others in the robot's units. What both chunks have is compared."""
    was = ActionChunk(np.array([[0.0, 0.5, 5.0], [1.0, 0.5, 5.0]]), "elsewhere")
    now = ActionChunk(np.array([[1.0, 0.25, 4.5]]), "jaco")

    assert chunk_distances(was, now, INFO).tolist() == [[0.5, 0.25, 0.5]]
    assert chunk_distances(now, replace(was, unnorm_key="jaco"), INFO).tolist() == [[0.5, 0.25, 0.5]]
    with pytest.raises(StillframeError, match=r"actions of the one have 2 numbers, those of .* 3; expected as many"):
        chunk_distances(ActionChunk(np.zeros((1, 2)), "jaco"), now, INFO)
