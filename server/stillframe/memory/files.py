"""What a checkpoint that was trained with older frames has beside it: memory.json and memory.safetensors.

Knows their layout; not the checkpoint's own.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import nn

from stillframe.errors import CheckpointError
from stillframe.memory.gate import CELLS, Cell, Gate, GateSizes, Linear
from stillframe.memory.pooling import Pooling

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
    """Write both files; the rename of the tensors makes them whole or absent."""
    (folder / CONFIG_NAME).write_text(json.dumps(asdict(weights.config), indent=2) + "\n", encoding="utf-8")
    part = folder / f"{TENSORS_NAME}.part"
    save_file({name: tensor.contiguous() for name, tensor in weights.state_dict().items()}, part)
    part.chmod(0o644)  # safetensors keeps it to its owner; a daemon may run as somebody else
    part.rename(folder / TENSORS_NAME)


def load_memory(folder: Path, device: torch.device) -> Weights:
    """Read both. Raises CheckpointError for what is missing or does not fit."""
    if not has_memory(folder):
        raise CheckpointError(
            f"{folder} was not trained with older frames: it has no {CONFIG_NAME}; set history.enabled to false, "
            "or history.force to true to see what it does without training"
        )
    weights = Weights(_config(folder / CONFIG_NAME))
    try:
        weights.load_state_dict(load_file(folder / TENSORS_NAME))
    except (OSError, SafetensorError, RuntimeError) as error:
        expected = f"the tensors that {CONFIG_NAME} describes"
        raise CheckpointError(
            f"{folder / TENSORS_NAME} cannot be read; expected {expected}, as training wrote them"
        ) from error
    return weights.to(device).eval().requires_grad_(requires_grad=False)


def _config(file: Path) -> MemoryConfig:
    try:
        document: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
        config = MemoryConfig(**{**document, "taps": tuple(document["taps"])})
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise CheckpointError(f"{file} cannot be read; expected the keys that training wrote") from error
    sizes = (config.layers, config.kv_heads, config.head_dim, config.chunk_tokens, config.slots, config.hidden)
    whole = all(type(size) is int and size > 0 for size in (*sizes, config.extras))
    if not whole or config.cell not in CELLS or not all(tap in range(config.layers) for tap in config.taps):
        raise CheckpointError(f"{file}: expected whole sizes above 0, taps below {config.layers}, cell gru or lstm")
    return config
