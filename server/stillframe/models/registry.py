"""Which class serves which checkpoint: a table from config.json's `model_type` to a module, imported on use."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from typing import Any, cast

import torch

from stillframe.domain import WeightScheme
from stillframe.errors import CheckpointError, ConfigError, closest
from stillframe.files.kinds import shown
from stillframe.models.base import PolicyModel
from stillframe.models.checkpoint import INDEX_NAME, SINGLE_NAME, CheckpointFolder
from stillframe.models.folder_kinds import refusal
from stillframe.models.llama.decoder import DecoderConfig

FAMILIES = {
    "openvla": "stillframe.models.openvla.model:OpenVLA",
    "openvla_oft": "stillframe.models.openvla_oft.model:OpenVLAOFT",
    "cogact": "stillframe.models.cogact.model:CogACT",
    "pi0": "stillframe.models.pi0.model:Pi0",
    "pi05": "stillframe.models.pi0.model:Pi0",
}
PRISMATIC = "stillframe.models.prismatic.config:PrismaticConfig"
# What reads the family's sizes.
CONFIGS = {
    "openvla": PRISMATIC,
    "openvla_oft": PRISMATIC,
    "cogact": "stillframe.models.cogact.config:CogACTConfig",
    "pi0": "stillframe.models.pi0.sizes:Pi0Sizes",
    "pi05": "stillframe.models.pi0.sizes:Pi0Sizes",
}
BY_SHAPES = ("pi0", "pi05")  # whose config.json says no sizes: the tensors' shapes do
# Keys of its config.json that a deployment may say otherwise: what weights do not show.
SETTINGS = {
    "openvla": "stillframe.models.prismatic.config:SETTINGS",
    "openvla_oft": "stillframe.models.openvla_oft.config:SETTINGS",
    "cogact": "stillframe.models.cogact.config:SETTINGS",
    "pi0": "stillframe.models.pi0.config:SETTINGS",
    "pi05": "stillframe.models.pi0.config:SETTINGS",
}
# What reads the family's folder, where that is none in the Hugging Face layout.
FOLDERS = {
    "cogact": "stillframe.models.cogact.run_folder:RunFolder",
    "pi0": "stillframe.models.pi0.folder:Pi0Folder",
    "pi05": "stillframe.models.pi0.folder:Pi0Folder",
}
# Which of a published repository's files the family reads: what a hub id fetches.
FILES = {
    "openvla": "stillframe.models.prismatic.files:files_read",
    "openvla_oft": "stillframe.models.openvla_oft.parts:files_read",
    "cogact": "stillframe.models.cogact.run_folder:files_read",
    "pi0": "stillframe.models.pi0.files:files_read",
    "pi05": "stillframe.models.pi0.files:files_read",
}
# model_type (None: there is none) -> families that share it, and what recognises their folders.
VARIANTS: Mapping[str | None, Mapping[str, str]] = {
    "openvla": {"openvla_oft": "stillframe.models.openvla_oft.parts:recognised"},
    None: {
        "cogact": "stillframe.models.cogact.run_folder:recognised",
        "pi0": "stillframe.models.pi0.folder:recognised_pi0",
        "pi05": "stillframe.models.pi0.folder:recognised_pi05",
    },
}


def load_policy(
    path: Path,
    *,
    dtype: torch.dtype,
    device: torch.device,
    config: Mapping[str, Any] | None = None,
    weights: WeightScheme = "as-is",
) -> PolicyModel:
    """Load the checkpoint at `path`; CheckpointError says what is wrong with it.

    `config`: keys that take the place of those in its config.json, for what a published one leaves out; ConfigError
    for one that its family does not have. `weights`: how the decoder's layers are held; ConfigError for a kind that
    this device or build cannot have. On device meta only what describes the weights is read: the policy has sizes and a
    contract, and computes nothing.
    """
    family, folder = open_folder(path, config)
    loaded = _imported(FAMILIES[family]).load(folder, dtype=dtype, device=device, weights=weights)
    return cast("PolicyModel", loaded)


def open_folder(path: Path, config: Mapping[str, Any] | None = None) -> tuple[str, CheckpointFolder]:
    """The family of the checkpoint at `path`, one of FAMILIES, and its folder as that family reads it."""
    folder = CheckpointFolder(path, config)
    family = family_of(folder)
    known = _imported(SETTINGS[family])
    for key in folder.config:
        if key not in known:
            raise ConfigError(
                f"checkpoint_config has {shown(key)!r}; of a checkpoint of {family} it may have {', '.join(known)}."
                f"{closest(key, known)}"
            )
    if family in FOLDERS:
        folder = _imported(FOLDERS[family])(path, config)
    return family, folder


def files_read(folder: CheckpointFolder) -> list[str]:
    """Names of the files that the folder's family reads; of a folder whose weights may not be here yet."""
    return cast("list[str]", _imported(FILES[family_of(folder)])(folder))


def decoder_sizes(path: Path, config: Mapping[str, Any] | None = None) -> DecoderConfig:
    """The decoder's sizes, by the checkpoint's config.json and `config` alone, or by its shapes; errors as above."""
    folder = CheckpointFolder(path, config)
    family = family_of(folder)
    if family in BY_SHAPES:
        return cast("DecoderConfig", _imported(CONFIGS[family]).of(_imported(FOLDERS[family])(path, config)).decoder)
    sizes = _imported(CONFIGS[family]).from_json(folder.json("config.json"))
    if folder.has(SINGLE_NAME) or folder.has(INDEX_NAME):
        sizes.check_sizes(folder)
    return cast("DecoderConfig", sizes.decoder)


def family_of(folder: CheckpointFolder) -> str:
    """Which of FAMILIES the folder is of. File names are checked first: config.json may not show the variant."""
    refused = refusal(folder.path, folder.names)
    if refused is not None:
        raise CheckpointError(refused)
    named = folder.json("config.json").get("model_type")
    for variant, recognises in VARIANTS.get(named if isinstance(named, str) else None, {}).items():
        if _imported(recognises)(folder):
            return variant
    family = str(named)
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
