"""Finds and reads the parts that lie beside a backbone, such as an action head or a projector of the state.

Knows where fine-tuning and conversion put them; not what they compute. A part lies in one file of its own, .pt or
safetensors, or among the backbone's tensors under its name.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from stillframe.errors import CheckpointError
from stillframe.files.kinds import shown
from stillframe.models.checkpoint import CheckpointFolder
from stillframe.models.components import Component
from stillframe.models.soundness import unsound
from stillframe.models.tensor_files import opened
from stillframe.models.torch_files import described, saved_tensors

WRAPPERS = ("module.",)  # what distributed training wraps a module in
SUFFIXES = (".pt", ".pth", ".bin", ".safetensors")
FLOATS = (torch.float32, torch.float16, torch.bfloat16, torch.float64)


@dataclass(frozen=True)
class Part:
    """One part's tensors, as they are stored."""

    name: str
    where: str
    tensors: Mapping[str, Tensor]
    stored_as: tuple[str, ...] = ()  # their names, where they lie among the backbone's

    def shape(self, name: str, sides: int = 2) -> tuple[int, ...]:
        """A tensor's. CheckpointError where it is not there, or has other than so many sides."""
        found = self.tensors.get(name)
        if found is None or found.dim() != sides or 0 in found.shape:
            has = "none" if found is None else f"shape {tuple(found.shape)}"
            raise CheckpointError(f"{self.where}: tensor {shown(name)}: expected {sides} sides; there is {has}")
        return tuple(found.shape)

    def component(self, name: str, layers: int, width: int) -> Component:
        """It as one of a checkpoint's."""
        names = self.stored_as or tuple(f"{self.name}.{own}" for own in self.tensors)
        tensors = map(described, self.tensors.values())
        return Component(name, layers, width, 0, dict(zip(names, tensors, strict=True)))

    def load_into(self, module: nn.Module, *, dtype: torch.dtype, device: torch.device) -> None:
        """Fill `module` from the tensors of the same names: all of them, and no others."""
        wanted = {name: tuple(tensor.shape) for name, tensor in module.state_dict().items()}
        if differing := sorted(wanted.keys() ^ self.tensors.keys()):
            raise CheckpointError(
                f"{self.where} lacks, or holds beside what is known, tensor {shown(differing[0])}"
                f"{f' and {len(differing) - 1} more' if differing[1:] else ''}; is it another variant?"
            )
        read = device.type != "meta"  # where numbers are none of its business
        tensors = {name: self._checked(name, shape, read=read) for name, shape in wanted.items()}
        loaded = {name: tensor.to(device, dtype, copy=True) for name, tensor in tensors.items()}
        module.load_state_dict(loaded, strict=True, assign=True)
        module.requires_grad_(requires_grad=False).eval()

    def _checked(self, name: str, shape: tuple[int, ...], *, read: bool) -> Tensor:
        """`read`: whether its numbers are looked at as well."""
        tensor = self.tensors[name]
        if tuple(tensor.shape) != shape or tensor.dtype not in FLOATS:
            found = f"shape {tuple(tensor.shape)} of {str(tensor.dtype).removeprefix('torch.')}"
            raise CheckpointError(f"{self.where}: tensor {shown(name)} has {found}, expected {shape} of floats")
        fault = unsound(name, tensor) if read else None
        if fault is not None:
            raise CheckpointError(f"{self.where}: {fault}")
        return tensor


def find_part(folder: CheckpointFolder, part: str) -> Part | None:
    """The part of that name; None: there is none. CheckpointError for two, of which nothing says which is meant."""
    files = part_files(folder, part)
    among = sorted(name for name in folder.stored if name.startswith(f"{part}."))
    check_one(folder, part, [shown(file.name) for file in files] + ["the weights themselves"] * bool(among))
    if files:
        file = files[0]
        read = _safe(file) if file.suffix.lower() == ".safetensors" else saved_tensors(file)
        return Part(part, shown(file), {_bare(name, part): tensor for name, tensor in read.items()})
    if among:
        return Part(part, shown(folder.path), {_bare(name, part): _one(folder, name) for name in among}, tuple(among))
    return None


def check_one(folder: CheckpointFolder, part: str, found: Sequence[str]) -> None:
    """Raise CheckpointError where there are several, of which nothing says which is meant."""
    if len(found) > 1:
        raise CheckpointError(
            f"{shown(folder.path)} has {part} in {' and in '.join(found)}; expected one: move the others away"
        )


def part_files(folder: CheckpointFolder, part: str) -> list[Path]:
    """The files whose names begin as the part's does."""
    names = (name for name in folder.names if name.lower().startswith(part))
    return [folder.path / name for name in names if Path(name).suffix.lower() in SUFFIXES]


def _safe(file: Path) -> dict[str, Tensor]:
    with opened(file) as tensors:
        return {name: tensors.get_tensor(name) for name in tensors.keys()}  # noqa: SIM118 (no mapping)


def _one(folder: CheckpointFolder, name: str) -> Tensor:
    with opened(folder.stored[name][0]) as tensors:
        found: Tensor = tensors.get_tensor(name)
    return found


def _bare(name: str, part: str) -> str:
    """A tensor's name without what it was wrapped in, and without the part's own."""
    for prefix in (f"{part}.", *WRAPPERS):
        name = name.removeprefix(prefix)
    return name
