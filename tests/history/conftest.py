"""Frames made up of noise, in the smallest shapes. Knows no test."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from stillframe.history.pooling import Pooled
from stillframe.history.store import ChunkShape, History, RetentionPolicy

LAYERS, HEADS, DIM, SLOTS, TOKENS = 3, 2, 8, 2, 6


@pytest.fixture(scope="session")
def shape() -> ChunkShape:
    """Six tokens in two slots."""
    return ChunkShape(LAYERS, HEADS, DIM, TOKENS, SLOTS, torch.float32, torch.device("cpu"))


@pytest.fixture(scope="session")
def chunks() -> Callable[..., Pooled]:
    """One frame's chunks, told by a seed."""

    def make(seed: int, count: int = 1) -> Pooled:
        noise = torch.Generator().manual_seed(seed)
        sizes = (count, LAYERS, HEADS, SLOTS, DIM)
        return Pooled(torch.randn(sizes, generator=noise), torch.randn(sizes, generator=noise))

    return make


@pytest.fixture
def history(shape: ChunkShape) -> Callable[..., History]:
    """An empty history with room for so many chunks."""

    def make(room: int | None = 4, **rules: float) -> History:
        budget = None if room is None else room * shape.nbytes
        return History(shape, RetentionPolicy(budget, **rules))  # type: ignore[arg-type]  # each rule by its name

    return make
