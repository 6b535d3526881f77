"""A LeRobot dataset, opened by the libraries that its format stands on: Parquet, pandas' index, MP4."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from stillframe.errors import StillframeError
from stillframe.recording.frame import RecordedFrame

pq = pytest.importorskip("pyarrow.parquet", reason="needs the extra export-lerobot")
av = pytest.importorskip("av", reason="needs the extra export-lerobot")

from stillframe.tools.export.lerobot.stats import PictureStats, number_stats  # noqa: E402

Exported = Callable[..., list[Path]]
Make = Callable[..., RecordedFrame]


@pytest.fixture
def dataset(exported: Exported) -> Path:
    """Of both episodes."""
    (root,) = exported("lerobot")
    return root


def rows(file: Path) -> list[dict[str, Any]]:
    """Of a Parquet file."""
    return list(pq.read_table(file).to_pylist())


def info_of(root: Path) -> dict[str, Any]:
    """meta/info.json."""
    return dict(json.loads((root / "meta" / "info.json").read_text()))


def test_info_says_where_everything_is(dataset: Path) -> None:
    """Every path that it names exists, and every feature is a column or a video."""
    info = info_of(dataset)
    place = {"chunk_index": 0, "file_index": 0}
    data = dataset / info["data_path"].format(**place)
    videos = [key for key, feature in info["features"].items() if feature["dtype"] == "video"]

    assert info["codebase_version"] == "v3.0"
    assert [info[f"total_{what}"] for what in ("episodes", "frames", "tasks")] == [2, 5, 2]
    assert (info["fps"], info["splits"]) == (5, {"train": "0:2"})
    assert videos == ["observation.images.front", "observation.images.wrist"]
    assert all((dataset / info["video_path"].format(video_key=key, **place)).is_file() for key in videos)
    assert pq.read_schema(data).names == [key for key in info["features"] if key not in videos]
    assert info["features"]["observation.images.wrist"]["shape"] == [32, 32, 3]


def test_frames_are_rows(dataset: Path, frames: list[RecordedFrame]) -> None:
    """Numbers with their names; index, episode, task and time as the format counts them."""
    table, features = rows(dataset / "data/chunk-000/file-000.parquet"), info_of(dataset)["features"]

    assert features["action"]["names"][2] == "dz"
    assert features["observation.state"]["names"] == ["x [m]", "grip"]
    assert features["stillframe.chunk"]["names"][9] == "1.dz"
    for at, (row, frame) in enumerate(zip(table, frames, strict=True)):
        cache = frame.step.report.cache
        assert (row["index"], row["episode_index"], row["frame_index"]) == (at, cache.epoch, cache.seq)
        assert row["task_index"] == cache.epoch
        assert row["timestamp"] == pytest.approx(cache.seq / 5)
        assert row["action"] == pytest.approx(frame.step.chunk.actions[0])
        assert row["stillframe.chunk"] == pytest.approx(frame.step.chunk.actions.ravel())
        assert row["observation.state"] == pytest.approx(frame.observation.state)
        assert row["stillframe.time_ns"] == pytest.approx(frame.submitted_s * 1e9, rel=0, abs=1e3)
        assert row["stillframe.keyframe_reason"] == (cache.keyframe_reason or "")
        assert np.flatnonzero(row["stillframe.reused.front"]).tolist() == ([0, 5, 6] if cache.seq else [])


def test_tasks_are_the_index_of_a_frame_of_pandas(dataset: Path) -> None:
    """As LeRobot looks them up."""
    table = pq.read_table(dataset / "meta/tasks.parquet")
    described = json.loads(table.schema.metadata[b"pandas"])

    assert table.to_pydict() == {
        "task_index": [0, 1],
        "__index_level_0__": ["pick up cube 0", "pick up cube 1"],
    }
    assert described["index_columns"] == ["__index_level_0__"]


def test_episodes_say_where_their_frames_and_pictures_are(dataset: Path, frames: list[RecordedFrame]) -> None:
    """Each picture is found in the video by its episode's begin and its frame's time."""
    table = rows(dataset / "data/chunk-000/file-000.parquet")
    episodes = rows(dataset / "meta/episodes/chunk-000/file-000.parquet")
    key = "observation.images.front"
    with av.open(str(dataset / "videos" / key / "chunk-000/file-000.mp4")) as container:
        film = [(frame.time, frame.to_ndarray(format="rgb24")) for frame in container.decode(video=0)]

    assert [(one["dataset_from_index"], one["dataset_to_index"], one["length"]) for one in episodes] == [
        (0, 3, 3),
        (3, 5, 2),
    ]
    assert [one["tasks"] for one in episodes] == [["pick up cube 0"], ["pick up cube 1"]]
    for row, frame in zip(table, frames, strict=True):
        episode = episodes[row["episode_index"]]
        at_s = episode[f"videos/{key}/from_timestamp"] + row["timestamp"]
        time_s, picture = min(film, key=lambda shown: abs(shown[0] - at_s))
        assert time_s == pytest.approx(at_s, abs=1e-4)
        assert np.abs(picture.astype(int) - frame.observation.images["front"]).mean() < 3
    assert episodes[1][f"videos/{key}/to_timestamp"] == pytest.approx(1.0)


def test_an_episodes_film_needs_nothing_of_the_one_before(exported: Exported, frame: Make) -> None:
    """Its first frame can be decoded alone, although the picture has not changed."""
    still = {"images": frame(0, 0).observation.images}
    (root,) = exported("lerobot", [*(frame(0, number, **still) for number in range(3)), frame(1, 0, **still)])
    with av.open(str(root / "videos/observation.images.front/chunk-000/file-000.mp4")) as container:
        alone = [shown.key_frame for shown in container.decode(video=0)]

    assert alone == [True, False, True, True]


def test_a_full_file_is_followed_by_another(exported: Exported, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of frames and of pictures, at an episode's end; each episode says in which it is, and when it begins there."""
    monkeypatch.setattr("stillframe.tools.export.lerobot.camera.FILM_BYTES", -1)  # the encoder lags
    monkeypatch.setattr("stillframe.tools.export.lerobot.tables.FILE_BYTES", 0)
    (root,) = exported("lerobot")
    key = "observation.images.wrist"
    second = rows(root / "meta/episodes/chunk-000/file-000.parquet")[1]

    assert (second["data/file_index"], second[f"videos/{key}/file_index"]) == (1, 1)
    assert (second[f"videos/{key}/from_timestamp"], second["dataset_from_index"]) == (0.0, 3)
    assert [row["index"] for row in rows(root / "data/chunk-000/file-001.parquet")] == [3, 4]
    with av.open(str(root / "videos" / key / "chunk-000/file-001.mp4")) as container:
        assert len(list(container.decode(video=0))) == 2


def test_statistics_are_those_of_the_numbers(dataset: Path, frames: list[RecordedFrame]) -> None:
    """Of all frames in meta/stats.json, of each episode's in its row; of pictures from 0 to 1, by channel."""
    stats = json.loads((dataset / "meta/stats.json").read_text())
    actions = np.array([frame.step.chunk.actions[0] for frame in frames])
    pictures = np.stack([frame.observation.images["front"] for frame in frames]) / 255
    first = rows(dataset / "meta/episodes/chunk-000/file-000.parquet")[0]

    assert stats["action"]["mean"] == pytest.approx(actions.mean(axis=0), abs=1e-6)
    assert stats["action"]["q90"] == pytest.approx(np.quantile(actions, 0.9, axis=0), abs=1e-6)
    assert stats["action"]["count"] == [5]
    assert first["stats/action/max"] == pytest.approx(actions[:3].max(axis=0), abs=1e-6)
    assert np.array(stats["observation.images.front"]["std"]).shape == (3, 1, 1)
    assert np.ravel(stats["observation.images.front"]["mean"]) == pytest.approx(pictures.mean(axis=(0, 1, 2)))
    assert np.ravel(stats["observation.images.front"]["std"]) == pytest.approx(pictures.std(axis=(0, 1, 2)))
    assert "stillframe.reused.front" not in stats
    assert stats["stillframe.drift"]["max"] == [0.5]


def test_picture_statistics_come_from_histograms() -> None:
    """Quantiles too, over several pictures, each channel by itself."""
    noise = np.random.default_rng(0).integers(0, 200, (3, 40, 40, 3), np.uint8)
    gathered, part = PictureStats(), PictureStats()
    for picture in noise[:2]:
        part.add(picture)
    gathered.merge(part)
    gathered.add(noise[2])
    level = 1 / 255

    for name, share in (("min", 0.0), ("q10", 0.1), ("q50", 0.5), ("q99", 0.99), ("max", 1.0)):
        expected = np.quantile(noise / 255, share, axis=(0, 1, 2))
        assert gathered.stats[name].ravel() == pytest.approx(expected, abs=level)
    assert gathered.stats["count"].tolist() == [3]


def test_numbers_that_are_not_known_do_not_spoil_statistics() -> None:
    """NaN is left out; where there is nothing else the statistics are zeros, for JSON has no NaN."""
    known = number_stats(np.array([np.nan, 2.0, 4.0]))
    unknown = number_stats(np.array([np.nan, np.nan]))

    assert known["mean"].tolist() == [3.0]
    assert known["count"].tolist() == [3]
    assert unknown["max"].tolist() == [0.0]


def test_two_robots_are_no_dataset(exported: Exported, frame: Make) -> None:
    """Other cameras, or a state of another length: what to do is said."""
    front = {"images": {"front": frame(1, 0).observation.images["front"]}}
    with pytest.raises(StillframeError, match=r"has pictures of front, those before of front, wrist"):
        exported("lerobot", [frame(0, 0), frame(1, 0, **front)])


def test_states_of_two_lengths_are_no_dataset(exported: Exported, frame: Make) -> None:
    """Nor a state that comes and goes."""
    with pytest.raises(StillframeError, match=r"observation\.state is of 3 numbers, that of those before of 2 numbers"):
        exported("lerobot", [frame(0, 0), frame(0, 1, state=np.zeros(3))])


def test_a_state_that_comes_and_goes_is_no_dataset(exported: Exported, frame: Make) -> None:
    """Where the first frame has one and a later one has not."""
    with pytest.raises(StillframeError, match=r"some frames have no observation\.state as others do"):
        exported("lerobot", [frame(0, 0), frame(0, 1, state=None)])


def test_what_some_frames_lack_is_left_out(exported: Exported, frames: list[RecordedFrame]) -> None:
    """Patches of an older recording, drift that was never measured."""
    cache = replace(frames[0].step.report.cache, patches=None)
    older = replace(frames[0], step=replace(frames[0].step, report=replace(frames[0].step.report, cache=cache)))
    (root,) = exported("lerobot", [older])
    features = info_of(root)["features"]

    assert "stillframe.reused.front" not in features
    assert "stillframe.drift" not in features
    assert "action" in features


def test_a_cameras_name_cannot_leave_the_dataset(exported: Exported, frame: Make, tmp_path: Path) -> None:
    """A client names its camera as it likes."""
    odd = frame(0, 0, images={"../../evil/cam": frame(0, 0).observation.images["front"]})
    (root,) = exported("lerobot", [odd])

    assert [folder.name for folder in (root / "videos").iterdir()] == ["observation.images.______evil_cam"]
    assert not list(tmp_path.glob("evil*"))
