"""A LeRobot dataset opened by LeRobot itself, without a network, in the environment that `make test-lerobot` makes."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from stillframe.domain import Image
from stillframe.recording.frame import RecordedFrame
from stillframe.recording.reader import read_episodes

pytest.importorskip("pyarrow", reason="needs the extra export-lerobot")
pytest.importorskip("av", reason="needs the extra export-lerobot")

from stillframe.tools.export.command import export

pytestmark = pytest.mark.slow

ROOT, READER = Path(__file__).parents[3], Path(__file__).with_name("read_with_lerobot.py")
ENVIRONMENT = "STILLFRAME_LEROBOT"
CAMERAS = ("front", "wrist")
IMAGES = "observation.images."
LEVELS = 255
LOSS = 3 / LEVELS  # of the film, on average
CHOSEN = 1  # the episode that is loaded alone
Read = Mapping[str, NDArray[np.generic]]


@pytest.fixture(scope="session")
def environment() -> Path:
    """The interpreter of LeRobot's environment; skips where there is none."""
    folder = Path(os.environ.get(ENVIRONMENT) or ROOT / ".venv" / "lerobot").absolute()
    if not (folder / ".installed").is_file():
        pytest.skip(f"no lerobot in {folder}: `make test-lerobot` installs it")
    return folder / "bin" / "python"


@pytest.fixture(scope="module", params=["files for all", "files for each"])
def loaded(
    request: pytest.FixtureRequest,
    tmp_path_factory: pytest.TempPathFactory,
    environment: Path,
    frames: list[RecordedFrame],
    stored: Callable[..., Path],
) -> Iterator[Read]:
    """What LeRobot reads of the recording's export: both episodes in the same files, or each in its own."""
    folder = tmp_path_factory.mktemp("lerobot")
    episodes = read_episodes(stored(folder / "recording", frames), pytest.fail)
    with pytest.MonkeyPatch.context() as patch:
        if request.param == "files for each":
            patch.setattr("stillframe.tools.export.lerobot.camera.FILM_BYTES", -1)  # the encoder lags
            patch.setattr("stillframe.tools.export.lerobot.tables.FILE_BYTES", 0)
        (dataset,) = export(episodes, "lerobot", folder / "dataset", warn=pytest.fail, advance=lambda: None)
    out = folder / "read.npz"
    kept = {name: os.environ[name] for name in ("PATH", "LANG", "OMP_NUM_THREADS") if name in os.environ}
    command = [environment, "-I", READER, dataset, str(CHOSEN), out]
    done = subprocess.run(
        command, env=kept | {"HOME": str(folder)}, cwd=folder, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-4000:]
    with np.load(out) as read:
        yield dict(read)


def places(frames: list[RecordedFrame]) -> list[tuple[int, int]]:
    """Of each frame: its episode, and its number in it."""
    return [(frame.step.report.cache.epoch, frame.step.report.cache.seq) for frame in frames]


def seen(picture: Image) -> NDArray[np.float64]:
    """A picture as LeRobot gives one: channel first, 0 to 1, an odd side made even."""
    even = np.pad(picture, (*((0, side % 2) for side in picture.shape[:2]), (0, 0)), mode="edge")
    return np.moveaxis(even, -1, 0) / LEVELS


def test_frames_are_the_recorded_ones(loaded: Read, frames: list[RecordedFrame]) -> None:
    """State, action, the chunk, the task's text, episode, place and time of each."""
    observed = [frame.observation for frame in frames]

    assert loaded["task"].tolist() == [each.instruction for each in observed]
    assert loaded["observation.state"] == pytest.approx(np.array([each.state for each in observed]))
    assert loaded["action"] == pytest.approx(np.array([frame.step.chunk.actions[0] for frame in frames]))
    assert loaded["stillframe.chunk"] == pytest.approx(np.array([frame.step.chunk.actions.ravel() for frame in frames]))
    assert [*zip(loaded["episode_index"], loaded["frame_index"], strict=True)] == places(frames)
    assert loaded["index"].tolist() == [*range(len(frames))]
    assert loaded["timestamp"] == pytest.approx(np.array([number for _, number in places(frames)]) / loaded["fps"])


def test_the_time_of_sending_survives(loaded: Read, frames: list[RecordedFrame]) -> None:
    """To the microsecond: LeRobot has no numbers of double precision, only whole ones."""
    sent_us = [round(frame.submitted_s * 1e6) for frame in frames]

    assert np.abs(loaded["stillframe.time_ns"] // 1000 - np.array(sent_us)).max() <= 1
    assert len({*sent_us}) == len(frames)


@pytest.mark.parametrize("camera", CAMERAS)
def test_pictures_are_the_recorded_ones(loaded: Read, frames: list[RecordedFrame], camera: str) -> None:
    """Each frame's own, not its neighbour's, but for what the film loses."""
    expected = np.stack([seen(frame.observation.images[camera]) for frame in frames])
    shown = loaded[IMAGES + camera]

    assert shown.shape == expected.shape
    assert np.abs(shown - expected).mean(axis=(1, 2, 3)).max() < LOSS


def test_an_episode_ends_where_it_ended(loaded: Read, frames: list[RecordedFrame]) -> None:
    """What comes after an episode's last frame is its last frame, marked as filling; never the next episode's."""
    lengths = [sum(episode == which for episode, _ in places(frames)) for which in range(2)]
    last = [at == lengths[episode] - 1 for episode, at in places(frames)]
    after = [at if last[at] else at + 1 for at in range(len(frames))]

    assert loaded["lengths"].tolist() == lengths
    assert loaded["begins"].tolist() == [0, lengths[0]]
    for key in ("action", *(IMAGES + camera for camera in CAMERAS)):
        assert loaded[f"next.{key}_is_pad"].tolist() == [[False, over] for over in last]
        assert loaded[f"next.{key}"][:, 0] == pytest.approx(loaded[key])
        assert loaded[f"next.{key}"][:, 1] == pytest.approx(loaded[key][after])


def test_an_episode_can_be_chosen(loaded: Read, frames: list[RecordedFrame]) -> None:
    """It alone is loaded: its frames, their pictures and their task."""
    own = [at for at, (episode, _) in enumerate(places(frames)) if episode == CHOSEN]

    assert loaded["chosen.index"].tolist() == own
    for key in ("task", "timestamp", "action", *(IMAGES + camera for camera in CAMERAS)):
        assert np.array_equal(loaded[f"chosen.{key}"], loaded[key][own])


def test_frames_make_a_batch(loaded: Read) -> None:
    """A DataLoader puts every feature of any frames together, text and patches too."""
    keys = [key.removeprefix("batch.") for key in loaded if key.startswith("batch.")]

    assert {"task", "stillframe.keyframe_reason", "stillframe.reused.front", IMAGES + "wrist"} <= {*keys}
    for key in keys:
        np.testing.assert_array_equal(loaded[f"batch.{key}"][::-1], loaded[key], err_msg=key)


def test_a_policy_is_given_pictures_state_and_action(loaded: Read, frames: list[RecordedFrame]) -> None:
    """Nothing of ours is an input or an output of it; what normalises them are the statistics of the frames."""
    pictures = np.stack([frame.observation.images["front"] for frame in frames]) / LEVELS

    assert loaded["inputs"].tolist() == ["action", *(IMAGES + camera for camera in CAMERAS), "observation.state"]
    assert loaded["mean.action"] == pytest.approx(loaded["action"].mean(axis=0), abs=1e-6)
    assert loaded[f"mean.{IMAGES}front"].ravel() == pytest.approx(pictures.mean(axis=(0, 1, 2)))
