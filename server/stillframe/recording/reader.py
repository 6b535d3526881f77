"""Reads a recording back, episode by episode; what is damaged or foreign is named and skipped.

Knows the format by frame.py and store.py.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
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

    @property
    def seqs(self) -> tuple[int, int]:
        """Of its first and its last frame; a foreign file has none."""
        numbers = [int(file.stem) for file in self.files if file.stem.isdecimal()]
        return min(numbers, default=0), max(numbers, default=0)

    def frames(self, warn: Warn) -> Iterator[RecordedFrame]:
        """Read the frames in order; `warn` is called with each that cannot be read, and why."""
        for file in self.files:
            try:
                yield read_frame(file)
            except RecordingError as error:
                warn(f"skipped {error}")


@dataclass(frozen=True)
class WholeEpisode:
    """One episode with all folders that it goes on in."""

    card: EpisodeCard
    serial: int  # of its session: rises where a session of the same id began anew
    parts: tuple[RecordedEpisode, ...]

    @property
    def name(self) -> str:
        """Of its first folder: when it began, its session's hash, its epoch."""
        return self.parts[0].folder.name

    def frames(self, warn: Warn) -> Iterator[RecordedFrame]:
        """As RecordedEpisode's, of all parts."""
        for part in self.parts:
            yield from part.frames(warn)


def whole_episodes(episodes: Iterable[RecordedEpisode]) -> list[WholeEpisode]:
    """Session by session, the first seen first, each session's episodes in their order; parts joined.

    A part goes on with the epoch of the one before where its frames' numbers do; a session whose epoch does not rise
    otherwise began anew.
    """
    sessions: dict[str, list[WholeEpisode]] = {}
    for part in episodes:
        own = sessions.setdefault(part.card.session, [])
        last = own[-1] if own else None
        if last is None or last.card.epoch < part.card.epoch:
            own.append(WholeEpisode(part.card, 0 if last is None else last.serial, (part,)))
        elif last.card.epoch == part.card.epoch and last.parts[-1].seqs[1] < part.seqs[0]:
            own[-1] = replace(last, parts=(*last.parts, part))
        else:
            own.append(WholeEpisode(part.card, last.serial + 1, (part,)))
    return [episode for own in sessions.values() for episode in own]


def check_pictures(episodes: Iterable[RecordedEpisode]) -> None:
    """Raise StillframeError where the first frame that can be read has no pictures: before anything long begins."""
    frames = (frame for episode in episodes for frame in episode.frames(lambda _: None))
    first = next(frames, None)
    if first is not None:
        first.check_pictures()


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
