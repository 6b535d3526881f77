"""One repository of the hub at one commit: what it holds, and its files in huggingface_hub's cache.

Knows huggingface_hub, which is imported on use; no family. Endpoint, token, cache and offline mode are that library's:
HF_ENDPOINT, HF_TOKEN, HF_HOME, HF_HUB_OFFLINE. What it raises becomes a CheckpointError of one line.
"""

from __future__ import annotations

import contextlib
import glob
import logging
import shutil
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from stillframe.errors import CheckpointError
from stillframe.files.kinds import shown
from stillframe.models.hub.faults import explained
from stillframe.models.hub.ids import HubId

LOG = logging.getLogger(__name__)
LIBRARY = "stillframe"  # in the user agent
GB = 1e9


class HubRepository:
    """A repository whose revision is resolved: every file comes from one commit.

    `id`: the repository and that commit. `folder`: its snapshot in the cache, there once a file was fetched. `sizes`:
    file -> bytes of all that the commit holds, or where `doubt` says why that is not known, of what is in the cache.
    """

    def __init__(self, wanted: HubId):
        """Ask the hub, or the cache where the hub cannot be reached. Raises CheckpointError."""
        with _explained(wanted):
            from huggingface_hub import HfApi, constants
            from huggingface_hub.file_download import repo_folder_name

            self._api = HfApi(library_name=LIBRARY)
            self._revision = self._api.resolve_revision(wanted.repository, revision=wanted.revision)
            cache = Path(constants.HF_HUB_CACHE).expanduser()
            repository = cache / repo_folder_name(repo_id=wanted.repository, repo_type="model")
        self._wanted = wanted
        self.id = HubId(wanted.repository, self._revision.resolved)
        self.folder = repository / "snapshots" / self._revision.resolved
        self.doubt = ""
        self.sizes = self._listing()
        LOG.info("%s: %s is commit %s", wanted.repository, wanted, self._revision.resolved)

    def fetch(self, names: Iterable[str]) -> None:
        """Have these files in `folder`: those that are not in the cache are downloaded. Raises CheckpointError."""
        missing = [name for name in names if not (self.folder / name).exists()]
        if not missing:
            return
        size = sum(self.sizes.get(name, 0) for name in missing)
        self._check_room(size)
        LOG.info("%s: fetching %d files, %d bytes: %s", self.id, len(missing), size, ", ".join(map(shown, missing)))
        with _explained(self._wanted, missing):
            from huggingface_hub import snapshot_download

            snapshot_download(
                self._wanted.repository,
                revision=self._revision,
                allow_patterns=[glob.escape(name) for name in missing],
                library_name=LIBRARY,
                tqdm_class=_bar(),
            )
        LOG.info("%s: fetched %d bytes", self.id, size)

    def _listing(self) -> Mapping[str, int]:
        """From the cache, which keeps a commit's listing; else from the hub; else of the files that are here."""
        from huggingface_hub import get_cached_repo_tree
        from huggingface_hub.errors import CachedRepoTreeNotFoundError

        with contextlib.suppress(CachedRepoTreeNotFoundError):
            return {file.path: file.size for file in get_cached_repo_tree(self.id.repository, revision=self._revision)}
        try:
            return self._asked()
        except CheckpointError as error:
            if not self.folder.is_dir():
                raise
            self.doubt = str(error)
        LOG.warning("%s: %s; the files that the cache has are taken to be all", self.id, self.doubt)
        return _sizes_in(self.folder)

    def _asked(self) -> Mapping[str, int]:
        with _explained(self._wanted):
            tree = self._api.list_repo_tree(self.id.repository, revision=self.id.revision, recursive=True)
            return {entry.path: entry.size for entry in tree if hasattr(entry, "size")}

    def _check_room(self, size: int) -> None:
        """Refuse at once what has no room on the disk."""
        place = next(folder for folder in self.folder.parents if folder.exists())
        free = shutil.disk_usage(place).free
        if free < size:
            raise CheckpointError(
                f"{self._wanted} takes {size / GB:.1f} GB more, and the disk of the cache {shown(place)} has "
                f"{free / GB:.1f} GB left; make room (`hf cache rm` removes what is not needed), or set HF_HOME to a "
                "folder on another disk"
            )


def _bar() -> Any:
    """The library's progress bar, on a terminal only: it would draw one of its bars anywhere."""
    from huggingface_hub import utils

    bar: Any = utils.tqdm  # type: ignore[attr-defined]

    class Bar(bar):  # type: ignore[misc]
        def __init__(self, *arguments: Any, **options: Any):
            quiet = sys.stderr is None or not sys.stderr.isatty()
            super().__init__(*arguments, **(options | {"disable": True} if quiet else options))

    return Bar


def _sizes_in(folder: Path) -> dict[str, int]:
    files = (file for file in folder.rglob("*") if file.is_file())
    return {file.relative_to(folder).as_posix(): file.stat().st_size for file in files}


@contextlib.contextmanager
def _explained(wanted: HubId, missing: Sequence[str] = ()) -> Iterator[None]:
    """Turn what the library raises into a CheckpointError of one line."""
    try:
        yield
    except Exception as error:  # whatever the library, its HTTP client and the disk make of it
        raise CheckpointError(explained(error, wanted, missing)) from error
