"""A file that torch.save wrote, as tensors by name: memory-mapped, and never unpickled beyond that.

Knows the format; no network. Source: torch.load with weights_only=True, which builds tensors and plain containers only.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from stillframe.errors import CheckpointError
from stillframe.files.json import reading
from stillframe.files.kinds import FETCH, mistaken, shown, words
from stillframe.models.tensor_files import Stored

MOST_TENSORS = 10_000
DEEPEST = 8  # dictionaries in dictionaries
DTYPES = {torch.float32: "F32", torch.float16: "F16", torch.bfloat16: "BF16", torch.float64: "F64"}
ARCHIVE = b"PK\x03\x04"  # torch.save's format since 1.6


def saved_tensors(file: Path) -> dict[str, Tensor]:
    """Tensor name -> tensor, on the CPU, mapped. Raises CheckpointError for what is no such file, or holds more."""
    found = _loaded(file)
    if not isinstance(found, dict) or not found or len(found) > MOST_TENSORS:
        raise CheckpointError(f"{shown(file)} holds {_what(found)}; expected tensors by name: a module's state_dict")
    for name, tensor in found.items():
        if not isinstance(name, str) or not isinstance(tensor, Tensor) or tensor.layout is not torch.strided:
            raise CheckpointError(
                f"{shown(file)}: {shown(repr(name))} is {_what(tensor)}; expected plain tensors by name: save the "
                "module's state_dict alone"
            )
    return found


def nested_tensors(file: Path) -> dict[str, Tensor]:
    """The same of dictionaries in dictionaries: names joined by dots. What is no tensor is passed over."""
    found = dict(_flat(_loaded(file), "", 0))
    if len(found) > MOST_TENSORS:
        raise CheckpointError(f"{shown(file)} holds {_what(found)}; expected at most {MOST_TENSORS} tensors")
    return found


def described(tensor: Tensor) -> Stored:
    """As a safetensors header would describe it; no tensor is known to be the file's last."""
    return Stored(DTYPES.get(tensor.dtype, str(tensor.dtype)), tuple(tensor.shape), 0)


def _flat(value: Any, prefix: str, depth: int) -> Iterator[tuple[str, Tensor]]:
    if isinstance(value, Tensor):
        yield prefix, value
    elif isinstance(value, Mapping) and depth < DEEPEST:
        for name, part in value.items():
            yield from _flat(part, f"{prefix}.{name}" if prefix else str(name), depth + 1)


def _loaded(file: Path) -> Any:
    """What torch.save wrote, of tensors and plain containers."""
    with reading(file), file.open("rb") as opened:
        archive = opened.read(len(ARCHIVE)) == ARCHIVE
    if not archive:
        what = mistaken(file) or words(file) or "was not written by torch.save"
        raise CheckpointError(f"{shown(file)} is no file of tensors: it {what}; {FETCH}")
    try:
        return torch.load(file, map_location="cpu", weights_only=True, mmap=True)
    except Exception as error:  # whatever a damaged file makes of the reader
        raise CheckpointError(
            f"{shown(file)} is no file of tensors that torch.save wrote ({shown(_first_line(error))}); {FETCH}"
        ) from error


def _what(found: object) -> str:
    if isinstance(found, dict):
        return f"{len(found)} entries"
    return f"a {type(found).__name__}"


def _first_line(error: Exception) -> str:
    return str(error).partition("\n")[0]
