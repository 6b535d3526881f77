"""A safetensors file's header: its tensors, their shapes, and whether the file is complete.

Knows the format; no network. Reads the header alone, within bounds. Source: the safetensors README, "Format".
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open

from stillframe.errors import CheckpointError
from stillframe.files.json import parse, reading
from stillframe.files.kinds import FETCH, mistaken, shown, words

PREFIX_BYTES = 8  # the header's length, little-endian
MOST_HEADER_BYTES = 16 * 2**20  # openvla-7b's 982 tensors take 0.1 MiB


@dataclass(frozen=True)
class Stored:
    """One tensor, as the header describes it."""

    dtype: str
    shape: tuple[int, ...]
    end: int  # offset of its last byte, from the header's end


def renamed(name: str, table: Iterable[tuple[re.Pattern[str], str]]) -> str:
    """A tensor's name by a table of patterns and what stands in their place, each applied in turn."""
    for pattern, place in table:
        name = pattern.sub(place, name)
    return name


def header(file: Path) -> Mapping[str, Stored]:
    """Tensor name -> what is stored. Raises CheckpointError for another kind of file, or one cut short."""
    kind = mistaken(file)
    if kind is not None:
        raise CheckpointError(f"{shown(file)} is not a readable safetensors file: it {kind}")
    with reading(file):
        size = file.stat().st_size
        with file.open("rb") as opened:
            length = int.from_bytes(opened.read(PREFIX_BYTES), "little")
            if not 2 <= length <= MOST_HEADER_BYTES:
                raise CheckpointError(_no_header(file, length))
            text = opened.read(length)
    if len(text) < length:
        raise CheckpointError(_cut_short(file, size, f"its header alone has {length}"))
    described = _described(file, text)
    whole = PREFIX_BYTES + length + max((one.end for one in described.values()), default=0)
    if size < whole:
        raise CheckpointError(_cut_short(file, size, f"its header promises {whole}"))
    return described


@contextmanager
def opened(file: Path) -> Iterator[Any]:
    """The tensors, memory-mapped; whatever safetensors raises about them becomes a CheckpointError."""
    try:
        with reading(file), safe_open(file, framework="pt") as tensors:
            yield tensors
    except SafetensorError as error:
        raise CheckpointError(f"{shown(file)} is not a readable safetensors file ({shown(error)})") from error


def _described(file: Path, text: bytes) -> Mapping[str, Stored]:
    try:
        document = parse(file, text.decode("utf-8"))
        document.pop("__metadata__", None)
        return {name: _stored(**entry) for name, entry in document.items()}
    except (CheckpointError, ValueError, TypeError, AttributeError) as error:
        raise CheckpointError(
            f"{shown(file)} is not a readable safetensors file: its header describes no tensors "
            f"({shown(error)}); {FETCH}"
        ) from error


def _stored(dtype: str, shape: list[int], data_offsets: list[int]) -> Stored:
    first, end = data_offsets
    sizes = (*shape, first, end)
    if not isinstance(dtype, str) or not all(type(size) is int and 0 <= size < 2**63 for size in sizes):
        raise ValueError("expected dtype, shape and data_offsets")
    return Stored(dtype, tuple(shape), end)


def _no_header(file: Path, length: int) -> str:
    text = words(file)
    what = f"it {text}" if text else f"its first 8 bytes name a header of {length} bytes; {FETCH}"
    return f"{shown(file)} is not a readable safetensors file: {what}"


def _cut_short(file: Path, size: int, expected: str) -> str:
    return (
        f"{shown(file)} is not a readable safetensors file: it is cut short, has {size} bytes where {expected}; {FETCH}"
    )
