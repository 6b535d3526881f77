"""The checkpoints that a configuration names, as folders: a hub id is fetched, a folder is left as it is.

Knows configurations; what is fetched is the models' business. Called for the operator's configuration and command line
only: nothing that a client sends gets here.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from stillframe.daemon.config import DaemonConfig


def local_folder(checkpoint: Path) -> Path:
    """See `models.hub.fetch.local_folder`; imported on use, for it takes torch."""
    from stillframe.models.hub.fetch import local_folder

    return local_folder(checkpoint)


def with_local_checkpoint(config: DaemonConfig) -> DaemonConfig:
    """The configuration with its checkpoints on disk. Raises CheckpointError for an id that cannot be fetched."""
    local: dict[str, Any] = {"checkpoint": local_folder(config.checkpoint)}
    if config.shadow.checkpoint is not None:
        local["shadow"] = replace(config.shadow, checkpoint=local_folder(config.shadow.checkpoint))
    return config.model_copy(update=local)
