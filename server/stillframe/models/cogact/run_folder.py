"""A CogACT run folder as it is published: config.json, dataset_statistics.json and one file of tensors in checkpoints/.

Knows the files and how their tensors are named; no network. Published folders have no tokenizer: Llama 2's
tokenizer.json is put beside the weights.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any

from torch import Tensor

from stillframe.errors import CheckpointError
from stillframe.files.kinds import shown
from stillframe.models.checkpoint import CheckpointFolder
from stillframe.models.folder_kinds import draws_by_diffusion, entries
from stillframe.models.hub.listed import ListedFolder
from stillframe.models.prismatic.files import beside_weights
from stillframe.models.tensor_files import Stored, renamed
from stillframe.models.torch_files import described, nested_tensors

WEIGHTS = "checkpoints"
REQUIRED = ("config.json", "dataset_statistics.json")
# The native names -> those of our modules, which are the Hugging Face conversion's.
RENAMED = (
    (re.compile(r"^vision_backbone\.dino_featurizer\."), "vision_backbone.featurizer."),
    (re.compile(r"^vision_backbone\.siglip_featurizer\."), "vision_backbone.fused_featurizer."),
    (re.compile(r"^(vision_backbone\..*\.ls[12])\.gamma$"), r"\1.scale_factor"),
    (re.compile(r"^projector\.projector\.0\."), "projector.fc1."),
    (re.compile(r"^projector\.projector\.2\."), "projector.fc2."),
    (re.compile(r"^projector\.projector\.4\."), "projector.fc3."),
    (re.compile(r"^llm_backbone\.llm\."), "language_model."),
    (re.compile(r"^action_model\.net\."), "action_model."),
)


class RunFolder(CheckpointFolder):
    """Reads the tensors of checkpoints/*.pt under our names."""

    @cached_property
    def weights(self) -> Path:
        """The one file of weights."""
        folder = self.path / WEIGHTS
        return folder / _chosen(str(folder), entries(folder) if folder.is_dir() else [])

    @cached_property
    def stored(self) -> Mapping[str, tuple[Path, Stored]]:
        """Our name of each tensor -> the file, and what it is."""
        return {name: (self.weights, described(tensor)) for name, tensor in self._tensors.items()}

    @contextmanager
    def opened(self, file: Path) -> Iterator[Any]:  # noqa: ARG002 -- there is one file
        """The tensors, memory-mapped."""
        yield self

    def get_tensor(self, name: str) -> Tensor:
        """One of them."""
        return self._tensors[name]

    @cached_property
    def _tensors(self) -> Mapping[str, Tensor]:
        tensors = nested_tensors(self.weights)
        named = {name.removeprefix("model."): tensor for name, tensor in tensors.items() if name.startswith("model.")}
        if not named:
            raise CheckpointError(f"{shown(self.weights)} has no tensors under 'model'; expected those of CogACT")
        return {renamed(name, RENAMED): tensor for name, tensor in named.items()}


def recognised(folder: CheckpointFolder) -> bool:
    """Whether the folder is such a run."""
    return draws_by_diffusion(folder.json("config.json"))


def files_read(folder: ListedFolder) -> list[str]:
    """Names of the files that a published run is read from. Raises CheckpointError for other than one of weights."""
    names = [name.removeprefix(f"{WEIGHTS}/") for name in folder.sizes if name.startswith(f"{WEIGHTS}/")]
    weights = _chosen(f"{folder.source}/{WEIGHTS}", sorted(name for name in names if "/" not in name))
    return [*beside_weights(folder, REQUIRED, ()), f"{WEIGHTS}/{weights}"]


def _chosen(where: str, names: Sequence[str]) -> str:
    """The one file of weights among `names`. Raises CheckpointError for none, or several."""
    files = [name for name in names if name.endswith(".pt")]
    if len(files) != 1:
        found = ", ".join(map(shown, files)) or "none"
        raise CheckpointError(f"{shown(where)} holds the weights {found}; expected one file that ends in .pt")
    return files[0]
