"""Which files a checkpoint on a Prismatic VLM is read from, of all that a published folder holds.

Knows names; opens the index alone. What is missing is missed here, before the weights are fetched.
"""

from __future__ import annotations

from collections.abc import Sequence

from stillframe.errors import CheckpointError
from stillframe.history.checkpoint import CONFIG_NAME, TENSORS_NAME
from stillframe.models.checkpoint import INDEX_NAME
from stillframe.models.hub.listed import ListedFolder
from stillframe.models.prismatic.tokenizer import tokenizer_names

REQUIRED, OPTIONAL = ("config.json", "preprocessor_config.json"), ("dataset_statistics.json", INDEX_NAME)


def files_read(folder: ListedFolder) -> list[str]:
    """Names, small ones first. Raises CheckpointError where one is missing."""
    return [*beside_weights(folder), *folder.safetensors()]


def beside_weights(
    folder: ListedFolder, required: Sequence[str] = REQUIRED, optional: Sequence[str] = OPTIONAL
) -> list[str]:
    """What is read beside the network's own tensors: small files, the tokenizer's, those of a trained history."""
    small = [*map(folder.require, required), *folder.listed(optional), *_tokenizer(folder)]
    return [*small, *folder.listed([CONFIG_NAME, TENSORS_NAME])]


def _tokenizer(folder: ListedFolder) -> list[str]:
    here = {name.name for name in folder.path.iterdir()} if folder.path.is_dir() else set()
    names = tokenizer_names({*folder.sizes, *here})
    if not names:
        raise CheckpointError(
            f"{folder.source} has no tokenizer, neither tokenizer.json nor tokenizer.model: put that of the same "
            f"vocabulary into {folder.path} and start again (for a Llama 2 of Prismatic, the tokenizer.json of "
            "openvla/openvla-7b)"
        )
    return names
