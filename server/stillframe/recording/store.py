"""The folders of a recording, one per episode, within a byte budget; names contain no client input.

Knows names, sizes and ages of folders; no frame and no threads.

    20261121T110501.250000Z-8c2f4e1a90b7-0003/    when it began, the session's hash, the epoch
      episode.json                                who: session, epoch, model
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import re
import shutil
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

from pydantic import TypeAdapter, ValidationError

from stillframe.files.writing import write_whole_bytes
from stillframe.recording.pictures import RecordingError

EPISODE_FILE = "episode.json"
BLOCK_BYTES = 4096  # sizes are counted in these
PARTS = 4  # an episode beyond a quarter of the budget continues in a new folder, so that eviction never takes all of it
ABANDONED_S = 60.0  # a part file of this age is left over
_NAME = re.compile(r"\d{8}T\d{6}\.\d{6}Z-[0-9a-f]{12}-\d{4,}(\.part)?")  # .part: being removed


@dataclass(frozen=True)
class EpisodeCard:
    """The episode that a folder holds."""

    format: Literal["stillframe-episode/1"]
    session: str
    epoch: int
    model: str
    action_names: tuple[str, ...] = ()  # of an action's numbers; (): recorded before there was such a thing
    state_names: tuple[str, ...] = ()  # of the state's; (): the policy reads none


class EpisodeStore:
    """Episode folders under `root`. Only what is named like an episode is counted or removed."""

    def __init__(self, root: Path, max_bytes: int):
        """Raise OSError where `root` cannot be made or written."""
        self.root = root
        self.max_bytes = max_bytes
        root.mkdir(parents=True, exist_ok=True)
        if not os.access(root, os.W_OK | os.X_OK):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(root))
        self._sizes: dict[Path, int] = {}
        self._count()
        for folder in self._sizes:
            _sweep(folder)

    @property
    def used_bytes(self) -> int:
        """Size of all episodes."""
        return sum([*self._sizes.values()])  # a copy: another thread may ask

    def begin(self, card: EpisodeCard, began_s: float) -> Path:
        """Make a folder with its card, and the root again where it was removed. Raises OSError, and leaves nothing."""
        self.root.mkdir(parents=True, exist_ok=True)
        self._count()  # folders may have been added or removed from outside
        stamp = datetime.fromtimestamp(began_s, UTC).strftime("%Y%m%dT%H%M%S.%fZ")
        digest = hashlib.sha256(card.session.encode()).hexdigest()[:12]
        folder = self.root / f"{stamp}-{digest}-{card.epoch:04d}"
        folder.mkdir()
        self._sizes[folder] = 0
        try:
            self.put(folder, {EPISODE_FILE: json.dumps(asdict(card)).encode()})
        except OSError:
            del self._sizes[folder]
            with suppress(OSError):
                folder.rmdir()
            raise
        return folder

    def takes(self, folder: Path, content: Mapping[str, bytes]) -> bool:
        """Whether the folder still exists and may grow by these files."""
        known = folder in self._sizes and _is_folder(folder)
        return known and self._sizes[folder] + _bytes(content) <= self.max_bytes // PARTS

    def fits(self, content: Mapping[str, bytes]) -> bool:
        """Whether these files can be kept at all."""
        return _bytes(content) + BLOCK_BYTES <= self.max_bytes // PARTS

    def put(self, folder: Path, content: Mapping[str, bytes]) -> None:
        """Write the files in their order, all of them or none. Raises OSError."""
        self._sizes[folder] += _bytes(content)
        try:
            for name, data in content.items():
                write_whole_bytes(folder / name, data)
        except OSError:
            for name in content:
                with suppress(OSError):
                    (folder / name).unlink(missing_ok=True)
            self._sizes[folder] -= _bytes(content)
            raise

    def make_room(self, content: Mapping[str, bytes]) -> None:
        """Remove the oldest episodes until the files, and a card, fit into the budget."""
        while self._sizes and self.used_bytes + _bytes(content) + BLOCK_BYTES > self.max_bytes:
            self._remove(min(self._sizes))

    def _remove(self, folder: Path) -> None:
        """Rename, then delete: a reader sees all of it or nothing."""
        if not folder.exists():  # removed from outside since the count
            del self._sizes[folder]
            return
        doomed = folder
        if folder.suffix != ".part":
            doomed = folder.with_name(folder.name + ".part")
            folder.rename(doomed)
            self._sizes[doomed] = self._sizes.pop(folder)  # if removal fails it is tried again
        shutil.rmtree(doomed)
        del self._sizes[doomed]

    def _count(self) -> None:
        mine = [folder for folder in self.root.iterdir() if _NAME.fullmatch(folder.name) and _is_folder(folder)]
        self._sizes = {folder: sum(map(_blocks, (file.stat().st_size for file in folder.iterdir()))) for folder in mine}


def read_card(folder: Path) -> EpisodeCard:
    """Read a folder's card. Raises RecordingError for a folder that is no episode."""
    try:
        return TypeAdapter(EpisodeCard).validate_json((folder / EPISODE_FILE).read_bytes())
    except (OSError, ValidationError) as error:
        raise RecordingError(f"{folder}: not a recorded episode: it has no {EPISODE_FILE} that can be read") from error


def _sweep(folder: Path) -> None:
    """Remove part files of a daemon that was killed; not those that another one may be writing."""
    for part in folder.glob("*.part"):
        with suppress(OSError):
            if time.time() - part.stat().st_mtime > ABANDONED_S:
                part.unlink()


def _is_folder(path: Path) -> bool:
    return path.is_dir() and not path.is_symlink()


def _bytes(content: Mapping[str, bytes]) -> int:
    return sum(_blocks(len(data)) for data in content.values())


def _blocks(size: int) -> int:
    return -(-size // BLOCK_BYTES) * BLOCK_BYTES
