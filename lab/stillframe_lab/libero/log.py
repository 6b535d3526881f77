"""The episodes that are finished, a line of JSON each, appended as they end: an evaluation that stopped goes on there.

Knows files and what episodes are made of; plays none.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from stillframe.domain import HistoryReport
from stillframe.errors import ConfigError
from stillframe_lab.evaluation.trace import AnsweredFrame
from stillframe_lab.libero.episode import PlayedEpisode
from stillframe_lab.libero.suites import EpisodeId

Origin = Mapping[str, Any]  # all that an episode's result depends on, as JSON


class EpisodeLog:
    """The file of one evaluation; with none, what is finished is known only here."""

    def __init__(self, file: Path | None, origin: Origin):
        """Read what is there. Raises ConfigError for a file that another evaluation has begun, or that is none."""
        self._file = file
        self.played: dict[EpisodeId, PlayedEpisode] = {}
        if file is None:
            return
        lines = _whole_lines(file)
        if not lines:
            _write(file, json.dumps({"origin": origin}))
            return
        _check_origin(file, lines[0], origin)
        for line in lines[1:]:
            self._keep(read_episode(json.loads(line)))

    def append(self, episode: PlayedEpisode) -> None:
        """Keep one more, on the disk before this returns."""
        self._keep(episode)
        if self._file is not None:
            _write(self._file, json.dumps(asdict(episode)))

    def _keep(self, episode: PlayedEpisode) -> None:
        self.played[episode.id] = episode


def log_file(result: Path) -> Path:
    """Where the episodes of the result in `result` are: runs/spatial.json -> runs/spatial.episodes.jsonl."""
    return result.with_suffix(".episodes.jsonl")


def read_episode(said: dict[str, Any]) -> PlayedEpisode:
    """An episode as its line says it."""
    frames = tuple(_frame(one) for one in said["frames"])
    several = {name: tuple(said.get(name, ())) for name in ("answers_ms", "drifts")}
    return PlayedEpisode(**{**said, **several, "id": EpisodeId(**said["id"]), "frames": frames})


def _frame(said: dict[str, Any]) -> AnsweredFrame:
    history = said["history"]
    return AnsweredFrame(**{**said, "history": None if history is None else HistoryReport(**history)})


def _write(file: Path, line: str) -> None:
    with file.open("a", encoding="utf-8") as opened:
        opened.write(line + "\n")


def _whole_lines(file: Path) -> list[str]:
    """The lines that were written to their end; what follows them, of a process that was killed, is cut off."""
    try:
        data = file.read_bytes() if file.exists() else b""
        whole = data[: data.rfind(b"\n") + 1]
        if whole != data:
            file.write_bytes(whole)
        file.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(f"cannot keep episodes in {file}: {error.strerror}; choose another --json") from error
    return whole.decode("utf-8", errors="replace").splitlines()


def _check_origin(file: Path, line: str, origin: Origin) -> None:
    try:
        found = json.loads(line)["origin"]
    except (ValueError, TypeError, KeyError):
        raise ConfigError(f"{file} holds no episodes of an evaluation; choose another --json, or delete it") from None
    other = sorted(name for name in found.keys() | origin.keys() if found.get(name) != origin.get(name))
    if other:
        differ = "; ".join(f"{name} was {found.get(name)!r} and is {origin.get(name)!r}" for name in other)
        raise ConfigError(f"{file} was begun by another evaluation: {differ}; choose another --json, or delete it")
