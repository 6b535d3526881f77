"""The tensors of a file that torch.save wrote: memory-mapped, and nothing but tensors is ever made of it.

Knows the file; no family. `weights_only` lets nothing through that is not a tensor or a plain container: no code runs.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from stillframe.errors import CheckpointError
from stillframe.files.json import reading
from stillframe.files.kinds import FETCH, mistaken, shown

ZIP = "ZIP archive"  # what kinds.py calls such a file, which is right here
DEEPEST = 8  # maps in maps


def read_tensors(file: Path) -> Mapping[str, Tensor]:
    """Full name -> tensor, names of nested maps joined by dots; what is no tensor is passed over.

    The numbers stay in the file until they are read. Raises CheckpointError for another kind of file.
    """
    kind = mistaken(file)
    if kind is not None and ZIP not in kind:
        raise CheckpointError(f"{shown(file)} is not a readable torch file: it {kind}")
    try:
        with reading(file):
            stored = torch.load(file, map_location="cpu", weights_only=True, mmap=True)
    except CheckpointError:
        raise
    except Exception as error:
        raise CheckpointError(
            f"{shown(file)} cannot be read as tensors ({shown(str(error).splitlines()[0] if str(error) else error)}): "
            f"expected what torch.save writes of tensors alone, in its ZIP format; {FETCH}"
        ) from error
    return dict(_flat(stored, "", 0))


def _flat(value: Any, prefix: str, depth: int) -> Iterator[tuple[str, Tensor]]:
    if isinstance(value, Tensor):
        yield prefix, value
    elif isinstance(value, Mapping) and depth < DEEPEST:
        for name, part in value.items():
            yield from _flat(part, f"{prefix}.{name}" if prefix else str(name), depth + 1)
