"""From what a configuration calls its checkpoint to a folder on disk: a folder stays one, a hub id is fetched.

Knows ids, the registry's table of files and the cache; no HTTP. First come the small files that say which family it
is, then what that family reads: no code, no pickle that is not read, no second copy of the weights.
"""

from __future__ import annotations

from pathlib import Path

from stillframe.errors import CheckpointError, closest
from stillframe.files.json import reading
from stillframe.files.kinds import shown
from stillframe.models.folder_kinds import entries
from stillframe.models.hub.ids import HubId, hub_id
from stillframe.models.hub.listed import DECIDING, ListedFolder
from stillframe.models.hub.repository import HubRepository
from stillframe.models.registry import files_read


def local_folder(checkpoint: Path) -> Path:
    """The folder to read: `checkpoint` itself, or where it is none and written like a hub id, that id's snapshot.

    Raises CheckpointError for a repository that cannot be fetched, or that is of no family that is served.
    """
    wanted = hub_id(checkpoint)
    with reading(checkpoint):
        is_there = checkpoint.exists() or checkpoint.is_symlink()
    if wanted is None or is_there:
        return checkpoint
    try:
        return _fetched(wanted)
    except CheckpointError as error:
        raise CheckpointError(f"{error} ({_as_a_path(checkpoint)})") from error


def _fetched(wanted: HubId) -> Path:
    repository = HubRepository(wanted)
    folder = ListedFolder(repository.folder, repository.id, repository.sizes)
    repository.fetch(folder.listed(DECIDING))
    try:
        names = files_read(folder)
    except CheckpointError as error:
        if not repository.doubt:
            raise
        raise CheckpointError(f"{repository.doubt} ({error})") from error
    repository.fetch(names)
    return repository.folder


def _as_a_path(checkpoint: Path) -> str:
    """The other reading of what is written like an id."""
    beside = entries(checkpoint.parent) if checkpoint.parent.is_dir() else []
    return f"{shown(checkpoint)} is not a folder here either.{closest(checkpoint.name, beside)}"
