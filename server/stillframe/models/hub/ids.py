"""What names a repository of the hub: `org/name[@revision]`, and a snapshot's folder in the cache.

Knows text; no network.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

# What folders of one's own lie under, here and elsewhere: never an organisation. A daemon that is started in another
# folder than was meant would else serve what a stranger published under the name of one's own checkpoint.
PLACES = frozenset({"checkpoints", "configs", "data", "docs", "models", "runs"})
_PART = r"[A-Za-z0-9_](?:[A-Za-z0-9_.-]{0,94}[A-Za-z0-9_])?"
_ID = re.compile(rf"(?P<repository>{_PART}/{_PART})(?:@(?P<revision>[A-Za-z0-9_][A-Za-z0-9_./-]{{0,254}}))?")
_CACHED = re.compile(rf"models--(?P<org>{_PART})--(?P<name>{_PART})")
_COMMIT = re.compile(r"[0-9a-f]{40}")


@dataclass(frozen=True)
class HubId:
    """A repository; `revision`: a branch, a tag or a commit, None for its default branch."""

    repository: str
    revision: str | None = None

    def __str__(self) -> str:
        return self.repository if self.revision is None else f"{self.repository}@{self.revision}"


def hub_id(path: Path) -> HubId | None:
    """The id that `path` is written like; None: no repository can have that name."""
    found = _ID.fullmatch(path.as_posix())
    if found is None or found["repository"].partition("/")[0] in PLACES:
        return None
    if "--" in found["repository"] or ".." in path.as_posix() or found["repository"].endswith(".git"):
        return None
    return HubId(found["repository"], found["revision"])


def snapshot_id(folder: Path) -> HubId | None:
    """The repository and commit of which `folder` is the snapshot in huggingface_hub's cache; None: it is none."""
    for path in (folder, folder.resolve()):
        cached = _CACHED.fullmatch(path.parent.parent.name)
        if cached and path.parent.name == "snapshots" and _COMMIT.fullmatch(path.name):
            return HubId(f"{cached['org']}/{cached['name']}", path.name)
    return None
