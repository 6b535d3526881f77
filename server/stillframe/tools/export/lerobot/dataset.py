"""A recording as one LeRobot dataset, format v3: meta/, data/ and videos/, which LeRobotDataset and its trainers open.

Knows the format's files; source: LeRobot's documentation of v3.0 and its reader. Needs the extra export-lerobot.

    meta/info.json  meta/stats.json  meta/tasks.parquet  meta/episodes/chunk-000/file-000.parquet
    data/chunk-000/file-000.parquet
    videos/observation.images.CAMERA/chunk-000/file-000.mp4
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from stillframe.domain import Image
from stillframe.errors import StillframeError
from stillframe.recording.reader import WholeEpisode
from stillframe.tools.export.frames import Advance, Warn, exported
from stillframe.tools.export.lerobot.camera import FILM_BYTES, CameraFiles
from stillframe.tools.export.lerobot.features import EACH_ALONE, FeatureTable
from stillframe.tools.export.lerobot.stats import Stats, number_stats
from stillframe.tools.export.lerobot.tables import (
    FILE_BYTES,
    FILES_PER_CHUNK,
    FrameFiles,
    place_of,
    write_episodes,
    write_tasks,
)

VERSION = "v3.0"
CHUNKED = "chunk-{chunk_index:03d}/file-{file_index:03d}"
MIB = 2**20


def export_lerobot(episodes: Sequence[WholeEpisode], out: Path, fps: int, warn: Warn, advance: Advance) -> Path:
    """Write all episodes into the folder `out`, at `fps` frames a second, whatever their times -> `out`.

    Raises StillframeError for episodes that do not fit one dataset: of other cameras, states or actions.
    """
    dataset = _Dataset(out, fps)
    try:
        for episode in episodes:
            dataset.add(episode, warn, advance)
    finally:
        dataset.close()
    dataset.write()
    return out


class _Dataset:
    """What is written, episode by episode; the tables once all frames are known."""

    def __init__(self, out: Path, fps: int):
        self._out, self._fps = out, fps
        self._table = FeatureTable()
        self._cameras: dict[str, CameraFiles] = {}
        self._tasks: dict[str, int] = {}
        self._rows: list[dict[str, Any]] = []

    def add(self, episode: WholeEpisode, warn: Warn, advance: Advance) -> None:
        """Add an episode; one of which no frame can be read is left out."""
        first, tasks = self._table.frames, dict[str, None]()
        for at, frame in enumerate(exported(episode, warn, advance)):
            if at == 0:
                self._begin(frame.pictures, episode.name)
            said = frame.recorded.observation.instruction
            tasks[said] = None
            place = {
                "frame_index": at,
                "episode_index": len(self._rows),
                "index": self._table.frames,
                "task_index": self._tasks.setdefault(said, len(self._tasks)),
            }
            self._check_cameras(frame.pictures, episode.name)
            self._table.add(frame, episode.card, place, at / self._fps)
            for camera, picture in frame.pictures.items():
                self._cameras[camera].add(picture)
        if self._table.frames > first:
            self._end(first, [*tasks])

    def close(self) -> None:
        """End the video files."""
        for camera in self._cameras.values():
            camera.close()

    def write(self) -> None:
        """Write the tables and all of meta/."""
        features = self._table.whole()
        if not features:
            raise StillframeError("not one recorded frame could be read; see the warnings above")
        dtypes = {name: feature.dtype for name, feature in features.items()}
        numbers = [name for name, feature in features.items() if feature.measured]
        files = FrameFiles(self._out / "data")
        for row in self._rows:
            frames = slice(row["dataset_from_index"], row["dataset_to_index"])
            columns = {name: feature.column(frames) for name, feature in features.items()}
            files.add(columns, dtypes)
            row |= {f"data/{name}": value for name, value in place_of(files.number).items()}
            row |= _flat({name: number_stats(columns[name]) for name in numbers})
        files.close()
        meta = self._out / "meta"
        write_episodes(meta / "episodes", self._rows)
        write_tasks(meta / "tasks.parquet", [*self._tasks])
        every = slice(0, self._table.frames)
        stats = {name: number_stats(features[name].column(every)) for name in numbers}
        stats |= {camera.key: camera.all.stats for camera in self._cameras.values()}
        _write_json(meta / "stats.json", {name: _listed(own) for name, own in stats.items()})
        described = {name: feature.described for name, feature in features.items()}
        described |= {camera.key: camera.described for camera in self._cameras.values()}
        _write_json(meta / "info.json", self._info(described))

    def _begin(self, pictures: dict[str, Image], episode: str) -> None:
        if not self._cameras:
            self._cameras = {camera: CameraFiles(self._out, camera, self._fps) for camera in pictures}
            if len({camera.key for camera in self._cameras.values()}) < len(pictures):
                raise StillframeError(f"{episode}: cameras {', '.join(pictures)} have one name in LeRobot's letters")
        for camera in self._cameras.values():
            camera.begin()

    def _check_cameras(self, pictures: dict[str, Image], episode: str) -> None:
        if pictures.keys() != self._cameras.keys():
            seen, known = ", ".join(pictures) or "none", ", ".join(self._cameras)
            raise StillframeError(f"{episode} has pictures of {seen}, those before of {known}; {EACH_ALONE}")

    def _end(self, first: int, tasks: list[str]) -> None:
        row: dict[str, Any] = {
            "episode_index": len(self._rows),
            "tasks": tasks,
            "length": self._table.frames - first,
            "dataset_from_index": first,
            "dataset_to_index": self._table.frames,
            **{f"meta/episodes/{name}": value for name, value in place_of(0).items()},
        }
        for camera in self._cameras.values():
            row |= camera.end() | _flat({camera.key: camera.episode.stats})
        self._rows.append(row)

    def _info(self, features: dict[str, Any]) -> dict[str, Any]:
        return {
            "codebase_version": VERSION,
            "robot_type": None,
            "total_episodes": len(self._rows),
            "total_frames": self._table.frames,
            "total_tasks": len(self._tasks),
            "chunks_size": FILES_PER_CHUNK,
            "data_files_size_in_mb": FILE_BYTES // MIB,
            "video_files_size_in_mb": FILM_BYTES // MIB,
            "fps": self._fps,
            "splits": {"train": f"0:{len(self._rows)}"},
            "data_path": f"data/{CHUNKED}.parquet",
            "video_path": f"videos/{{video_key}}/{CHUNKED}.mp4",
            "features": features,
        }


def _flat(stats: dict[str, Stats]) -> dict[str, Any]:
    """As columns of meta/episodes."""
    return {f"stats/{feature}/{name}": value for feature, own in stats.items() for name, value in _listed(own).items()}


def _listed(stats: Stats) -> dict[str, Any]:
    return {name: value.tolist() for name, value in stats.items()}


def _write_json(file: Path, document: dict[str, Any]) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(document, indent=4, ensure_ascii=False, allow_nan=False), encoding="utf-8")
