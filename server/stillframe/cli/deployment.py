"""The deployment that a command is given: a YAML, or a checkpoint with defaults. Knows configurations; no command."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from stillframe.daemon.config import DaemonConfig, load_config

YAML = {".yaml", ".yml"}


def deployment_of(checkpoint: Path, overrides: Mapping[str, Any]) -> DaemonConfig:
    """The YAML's, or a checkpoint's with defaults; `overrides` win (None: not given). Raises ConfigError."""
    if checkpoint.suffix in YAML:
        return load_config(checkpoint, overrides)
    return load_config(None, {**overrides, "checkpoint": checkpoint})
