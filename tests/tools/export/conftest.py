"""A recording of two episodes: two cameras, a state, chunks of four actions, reused patches, drift. Knows no format."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from stillframe.domain import ActionChunk, CacheReport, KeyframeReason, Observation, ReusedPatches, Step, StepReport
from stillframe.recording.frame import RecordedFrame
from stillframe.recording.pictures import PictureFormat
from stillframe.recording.reader import read_episodes
from stillframe.recording.recorder import Recorder
from stillframe.tools.export.command import ExportFormat, export

ACTIONS = ("dx", "dy", "dz", "droll", "dpitch", "dyaw", "gripper")
STATE = ("x [m]", "grip")
LENGTHS = (3, 2)  # frames of each episode
HZ = 5
REUSED = (0, 5, 6)  # of 4 by 4 patches of the front camera, in delta frames
SIZES = {"front": (32, 48), "wrist": (31, 32)}  # one with an odd side


def picture(camera: str, episode: int, number: int) -> np.ndarray:
    """A flat colour, brighter frame by frame, with a dark bar at its left."""
    made = np.full((*SIZES[camera], 3), 60 + 40 * number + 20 * episode, np.uint8)
    made[:, :8] = 10
    return made


def recorded(episode: int, number: int, **changes: Any) -> RecordedFrame:
    """One frame; `changes` of its observation."""
    draw = np.random.default_rng(10 * episode + number)
    delta = number > 0
    patches = {camera: ReusedPatches((4, 4), REUSED if delta and camera == "front" else ()) for camera in SIZES}
    reason = None if delta else (KeyframeReason.RESET if episode else KeyframeReason.FIRST_FRAME)
    ratio, drift = (0.25, 0.5 / number) if delta else (0.0, None)
    cache = CacheReport(
        "adaptive", reason, ratio, 3, 32, 64, number, episode, number, patches=patches, last_drift=drift
    )
    report = StepReport({"queue": 1.0, "decode": 2.0 + number}, passes=2, cache=cache)
    seen = {
        "images": {camera: picture(camera, episode, number) for camera in SIZES},
        "instruction": f"pick up cube {episode}",
        "state": np.array([0.25 * number, 1.0]),
        **changes,
    }
    chunk = ActionChunk(draw.normal(size=(4, 7)), "jaco")
    return RecordedFrame(1_700_000_000 + 100 * episode + number / HZ, Observation(**seen), Step(chunk, report))


@pytest.fixture(scope="session")
def frame() -> Callable[..., RecordedFrame]:
    """Make frames: `frame(1, 0, state=None)`, the first of the second episode."""
    return recorded


@pytest.fixture(scope="session")
def frames() -> list[RecordedFrame]:
    """Of both episodes."""
    return [recorded(episode, number) for episode, length in enumerate(LENGTHS) for number in range(length)]


@pytest.fixture(scope="session")
def stored() -> Callable[..., Path]:
    """Write frames to disk: `stored(folder, frames, images="hash")`."""

    def store(root: Path, frames: list[RecordedFrame], images: PictureFormat = "png") -> Path:
        recorder = Recorder(root, max_bytes=2**30, log=logging.getLogger("test"), images=images)
        for frame in frames:
            recorder.keep("arm", "toy", frame, action_names=ACTIONS, state_names=STATE)
        recorder.close()
        return root

    return store


@pytest.fixture
def exported(tmp_path: Path, frames: list[RecordedFrame], stored: Callable[..., Path]) -> Callable[..., list[Path]]:
    """Export the recording, or other frames: `exported("mcap")`; what was written."""

    def run(to: ExportFormat, other: list[RecordedFrame] | None = None, **options: Any) -> list[Path]:
        recording = stored(tmp_path / "recording", other or frames)
        episodes = read_episodes(recording, pytest.fail)
        return export(episodes, to, tmp_path / "out", warn=pytest.fail, advance=lambda: None, **options)

    return run
