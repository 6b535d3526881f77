"""Which class serves which checkpoint: a table from config.json's `model_type` to a module, imported on use."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import cast

import torch

from stillframe.errors import CheckpointError, closest
from stillframe.models.base import PolicyModel
from stillframe.models.checkpoint import CheckpointFolder

FAMILIES = {"openvla": "stillframe.models.openvla:OpenVLA"}


def load_policy(path: Path, *, dtype: torch.dtype, device: torch.device) -> PolicyModel:
    """Load the checkpoint at `path`; CheckpointError says what is wrong with it."""
    folder = CheckpointFolder(path)
    family = str(folder.json("config.json").get("model_type"))
    if family not in FAMILIES:
        known = ", ".join(sorted(FAMILIES))
        raise CheckpointError(
            f"{path}/config.json has model_type {family!r}; served are: {known}.{closest(family, FAMILIES)}"
        )
    module, _, name = FAMILIES[family].partition(":")
    loaded = getattr(import_module(module), name).load(folder, dtype=dtype, device=device)
    return cast("PolicyModel", loaded)
