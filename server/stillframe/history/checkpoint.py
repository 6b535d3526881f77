"""What a checkpoint that was trained with older frames has beside it: memory.json and memory.safetensors.

Knows their layout; not the checkpoint's own.
"""

from __future__ import annotations

import json
import math
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import nn

from stillframe.errors import CheckpointError
from stillframe.files.json import read_object
from stillframe.files.kinds import mistaken, shown
from stillframe.files.writing import write_whole
from stillframe.history.gate import CELLS, Cell, Gate, GateSizes, Linear
from stillframe.history.pooling import Pooling

CONFIG_NAME, TENSORS_NAME = "memory.json", "memory.safetensors"


@dataclass(frozen=True)
class MemoryConfig:
    """Sizes, and what the checkpoint was trained with."""

    layers: int
    kv_heads: int
    head_dim: int
    chunk_tokens: int  # that were pooled in training
    slots: int  # into so many
    taps: tuple[int, ...]  # layers whose slots a scorer sees
    extras: int  # numbers it sees beside: the last action and the time since the last frame
    hidden: int
    cell: Cell = "gru"

    @property
    def inputs(self) -> int:
        """Numbers that a learnt scorer reads of a chunk."""
        return 2 * len(self.taps) * self.kv_heads * self.head_dim + self.extras


class Weights(nn.Module):
    """All that was learnt about older frames; not `trained`: nothing was, and pooling is the mean."""

    def __init__(self, config: MemoryConfig, *, trained: bool = True):
        super().__init__()
        self.config, self.trained = config, trained
        self.pooling = Pooling(config.layers, config.kv_heads, config.head_dim, config.slots)
        self.gate = Gate(GateSizes(config.inputs, config.hidden, config.cell))
        self.linear = Linear(config.inputs)


def has_memory(folder: Path) -> bool:
    """Whether a checkpoint says that it was trained with older frames."""
    return (folder / CONFIG_NAME).is_file()


def save_memory(folder: Path, weights: Weights) -> None:
    """Write both files; the tensors, written last, whole or not at all."""
    (folder / CONFIG_NAME).write_text(json.dumps(asdict(weights.config), indent=2) + "\n", encoding="utf-8")
    tensors = {name: tensor.contiguous() for name, tensor in weights.state_dict().items()}

    def write(part: Path) -> None:
        save_file(tensors, part)
        part.chmod(0o644)  # safetensors gives it to its owner alone; a daemon may run under another account

    write_whole(folder / TENSORS_NAME, write)


def load_memory(folder: Path, device: torch.device) -> Weights:
    """Read both. Raises CheckpointError for what is missing or does not fit."""
    if not has_memory(folder):
        raise CheckpointError(
            f"{folder} was not trained with older frames: it has no {CONFIG_NAME}; set history.enabled to false, "
            "or history.force to true to see what it does without training"
        )
    config = _config(folder / CONFIG_NAME)
    try:
        _check_sizes(folder / TENSORS_NAME, config)
        weights = Weights(config)
        weights.load_state_dict(load_file(folder / TENSORS_NAME))
    except (OSError, SafetensorError, RuntimeError, ValueError) as error:
        kind = mistaken(folder / TENSORS_NAME)
        expected = f"the tensors that {CONFIG_NAME} describes"
        raise CheckpointError(
            f"{folder / TENSORS_NAME} cannot be read{f': it {kind}' if kind else ''}; expected {expected}, "
            "as training wrote them"
        ) from error
    _check_finite(folder / TENSORS_NAME, weights)
    return weights.to(device).eval().requires_grad_(requires_grad=False)


def _check_sizes(file: Path, config: MemoryConfig) -> None:
    """Raise ValueError for sizes that the file does not have, before anything of them is built."""
    with safe_open(file, framework="pt") as tensors:
        most = max((math.prod(tensors.get_slice(name).get_shape()) for name in tensors.keys()), default=0)  # noqa: SIM118
    largest = max(config.layers * config.kv_heads * config.slots * config.head_dim, config.hidden * config.inputs)
    if largest > most:
        raise ValueError(f"a tensor of {largest} numbers; the largest has {most}")


def _check_finite(file: Path, weights: Weights) -> None:
    for name, tensor in weights.state_dict().items():
        if not bool(torch.isfinite(tensor).all()):
            raise CheckpointError(f"{file}: tensor {name} holds numbers that are not finite; the file is damaged")


def _config(file: Path) -> MemoryConfig:
    document: dict[str, Any] = read_object(file)
    try:
        config = MemoryConfig(**{**document, "taps": tuple(document["taps"])})
    except (TypeError, KeyError) as error:
        raise CheckpointError(f"{shown(file)} cannot be read; expected the keys that training wrote") from error
    sizes = (config.layers, config.kv_heads, config.head_dim, config.chunk_tokens, config.slots, config.hidden)
    whole = all(type(size) is int and size > 0 for size in (*sizes, config.extras))
    whole = whole and isinstance(config.cell, str) and all(type(tap) is int for tap in config.taps)
    if not whole or config.cell not in CELLS or not all(tap in range(config.layers) for tap in config.taps):
        raise CheckpointError(f"{file}: expected whole sizes above 0, taps below {config.layers}, cell gru or lstm")
    return config
