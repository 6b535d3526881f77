"""What a checkpoint is made of: each part of its network, and the stored tensors that fill it.

Knows names and shapes; no number of a tensor, no family.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import prod
from typing import Protocol

from torch import nn

from stillframe.domain import PolicyInfo
from stillframe.models.checkpoint import CheckpointFolder
from stillframe.models.llama.decoder import Decoder
from stillframe.models.tensor_files import Stored

BYTES = {"F64": 8, "I64": 8, "U64": 8, "F32": 4, "I32": 4, "U32": 4, "F16": 2, "BF16": 2, "I16": 2, "U16": 2}  # else 1


@dataclass(frozen=True)
class Component:
    """One part. `layers` are those that are computed, `heads` those of its attention; 0: it has none."""

    name: str
    layers: int
    width: int
    heads: int
    stored: Mapping[str, Stored]

    @property
    def parameters(self) -> int:
        """Numbers that are read."""
        return sum(numbers(one) for one in self.stored.values())

    @property
    def disk_bytes(self) -> int:
        """What they take on disk."""
        return sum(disk_bytes(one) for one in self.stored.values())


class Described(Protocol):
    """A policy that can say what it is made of, its weights read or not."""

    @property
    def decoder(self) -> Decoder:
        """The language model."""
        ...

    @property
    def tokenizer_facts(self) -> Mapping[str, int]:
        """What is to be known of its tokenizer, by name."""
        ...

    @property
    def info(self) -> PolicyInfo:
        """The contract."""
        ...

    def components(self, folder: CheckpointFolder) -> tuple[Component, ...]:
        """Its parts, in the order in which a frame goes through them; `folder`: where it was loaded from."""
        ...


def component(
    folder: CheckpointFolder, prefix: str, module: nn.Module, name: str, *, layers: int, width: int, heads: int = 0
) -> Component:
    """A part whose tensors are stored as `prefix` and its own names."""
    names = (f"{prefix}{own}" for own in module.state_dict())
    return Component(name, layers, width, heads, {each: folder.stored[each][1] for each in names})


def numbers(stored: Stored) -> int:
    """How many numbers a tensor holds."""
    return prod(stored.shape)


def disk_bytes(stored: Stored) -> int:
    """What a tensor takes on disk."""
    return numbers(stored) * BYTES.get(stored.dtype, 1)
