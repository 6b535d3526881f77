"""Reads a recording back, episode by episode; what is damaged or foreign is named and skipped.

Knows the format by frame.py and store.py.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from stillframe.errors import ConfigError
from stillframe.recording.frame import RecordedFrame, read_frame
from stillframe.recording.pictures import RecordingError
from stillframe.recording.store import EPISODE_FILE, EpisodeCard, read_card

Warn = Callable[[str], None]


@dataclass(frozen=True)
class RecordedEpisode:
    """One episode, or a part of a very long one."""

    card: EpisodeCard
    folder: Path
    files: tuple[Path, ...]  # a JSON per frame, in the frames' order

    def frames(self, warn: Warn) -> Iterator[RecordedFrame]:
        """Read the frames in order; `warn` is called with each that cannot be read, and why."""
        for file in self.files:
            try:
                yield read_frame(file)
            except RecordingError as error:
                warn(f"skipped {error}")


def read_episodes(root: Path, warn: Warn) -> list[RecordedEpisode]:
    """All episodes under `root`, the oldest first; `root` may be one episode itself.

    Raises ConfigError where there is no such folder or not one episode with a frame in it.
    """
    try:
        folders = [root] if (root / EPISODE_FILE).is_file() else sorted(root.iterdir())
    except OSError as error:
        raise ConfigError(f"cannot read {root}: {error.strerror}; expected what `serve --record` wrote") from error
    episodes = [episode for folder in folders if (episode := _open(folder, warn)) and episode.files]
    if not episodes:
        raise ConfigError(f"{root} holds no episode; record some: stillframe serve CONFIG --record {root}")
    return episodes


def _open(folder: Path, warn: Warn) -> RecordedEpisode | None:
    try:
        card = read_card(folder)
    except RecordingError as error:
        warn(f"skipped {error}")
        return None
    files = (file for file in folder.glob("*.json") if file.name != EPISODE_FILE)
    return RecordedEpisode(card, folder, tuple(sorted(files, key=lambda file: (len(file.name), file.name))))
