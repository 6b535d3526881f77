"""Which class serves which checkpoint: a table from config.json's `model_type` to a module, imported on use."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import Any, cast

import torch

from stillframe.errors import CheckpointError, closest
from stillframe.files.kinds import shown
from stillframe.models.base import PolicyModel
from stillframe.models.checkpoint import INDEX_NAME, SINGLE_NAME, CheckpointFolder
from stillframe.models.folder_kinds import draws_by_diffusion, refusal
from stillframe.models.llama.decoder import DecoderConfig

FAMILIES = {
    "openvla": "stillframe.models.openvla.model:OpenVLA",
    "cogact": "stillframe.models.cogact.model:CogACT",
}
CONFIGS = {  # what reads the family's config.json
    "openvla": "stillframe.models.prismatic.config:PrismaticConfig",
    "cogact": "stillframe.models.cogact.config:CogACTConfig",
}


def load_policy(path: Path, *, dtype: torch.dtype, device: torch.device) -> PolicyModel:
    """Load the checkpoint at `path`; CheckpointError says what is wrong with it."""
    folder = CheckpointFolder(path)
    loaded = _imported(FAMILIES[_family(folder)]).load(folder, dtype=dtype, device=device)
    return cast("PolicyModel", loaded)


def decoder_sizes(path: Path) -> DecoderConfig:
    """The decoder's sizes, by the checkpoint's config.json alone; CheckpointError as above."""
    folder = CheckpointFolder(path)
    config = _imported(CONFIGS[_family(folder)]).from_json(folder.json("config.json"))
    if folder.has(SINGLE_NAME) or folder.has(INDEX_NAME):
        config.check_sizes(folder)
    return cast("DecoderConfig", config.decoder)


def _family(folder: CheckpointFolder) -> str:
    """Which of FAMILIES the folder is of. File names are checked first: config.json may not show the variant."""
    refused = refusal(folder.path)
    if refused is not None:
        raise CheckpointError(refused)
    config = folder.json("config.json")
    family = "cogact" if draws_by_diffusion(config) else str(config.get("model_type"))
    if family not in FAMILIES:
        known = ", ".join(sorted(FAMILIES))
        raise CheckpointError(
            f"{shown(folder.path)}/config.json has model_type {shown(family)!r}; "
            f"served are: {known}.{closest(family, FAMILIES)}"
        )
    return family


def _imported(place: str) -> Any:
    """The class at "module:name"."""
    module, _, name = place.partition(":")
    return getattr(import_module(module), name)
