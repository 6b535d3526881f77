"""A repository's folder before all of it is here: every name is known, and the files that were fetched can be read.

Knows names; no network, and no family: each says itself which names it reads.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

from stillframe.errors import CheckpointError
from stillframe.files.kinds import shown
from stillframe.models.checkpoint import INDEX_NAME, SINGLE_NAME, CheckpointFolder
from stillframe.models.folder_kinds import instead
from stillframe.models.hub.ids import HubId

DECIDING = ("config.json", INDEX_NAME)  # what says which family it is, and which shards there are


class ListedFolder(CheckpointFolder):
    """Answers for files that are listed as a folder on disk would; only small ones are there to be read.

    `path`: where they are fetched to. What an operator put there by hand counts as well.
    """

    def __init__(self, path: Path, source: HubId, sizes: Mapping[str, int]):
        self.path, self.source, self.sizes, self.config = path, source, sizes, {}

    @property
    def names(self) -> list[str]:
        """Files and folders at the top."""
        return sorted({name.partition("/")[0] for name in self.sizes})

    def file(self, name: str) -> Path:
        """A file that is here."""
        self.require(name)
        return super().file(name)

    def has(self, name: str) -> bool:
        """Whether it is here."""
        return (self.path / name).is_file()

    def tensor_files(self) -> dict[str, Path]:
        """Tensor name -> the file that will hold it, by the index; of a single file nothing is known yet."""
        return {name: self.path / shard for name, shard in self.shards().items()} if self.has(INDEX_NAME) else {}

    def require(self, name: str) -> str:
        """`name`, where it is listed, or was put beside what was fetched. Raises CheckpointError."""
        if name not in self.sizes and not self.has(name):
            raise CheckpointError(f"{self.source} lacks {shown(name)}{instead(self.path, name, self.names)}")
        return name

    def listed(self, names: Iterable[str]) -> list[str]:
        """Those that are there."""
        return [name for name in names if name in self.sizes]

    def safetensors(self) -> list[str]:
        """The shards that the index names, or the single file. Raises CheckpointError for one that is not there."""
        shards = sorted(set(self.shards().values())) if self.has(INDEX_NAME) else [SINGLE_NAME]
        return [self.require(shard) for shard in shards]
