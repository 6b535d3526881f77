"""The checkpoint that a configuration names, as a folder: a hub id is fetched, a folder is left as it is.

Knows configurations; what is fetched is the models' business. Called for the operator's configuration and command line
only: nothing that a client sends gets here.
"""

from __future__ import annotations

from pathlib import Path

from stillframe.daemon.config import DaemonConfig


def local_folder(checkpoint: Path) -> Path:
    """See `models.hub.fetch.local_folder`; imported on use, for it takes torch."""
    from stillframe.models.hub.fetch import local_folder

    return local_folder(checkpoint)


def with_local_checkpoint(config: DaemonConfig) -> DaemonConfig:
    """The configuration with its checkpoint on disk. Raises CheckpointError for an id that cannot be fetched."""
    folder = local_folder(config.checkpoint)
    return config if folder == config.checkpoint else config.model_copy(update={"checkpoint": folder})
