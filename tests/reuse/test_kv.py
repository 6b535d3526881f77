from __future__ import annotations

import pytest
import torch
from torch import Tensor

from stillframe.reuse.kv import FrameKV

LAYERS, HEADS, DIM, CAPACITY = 2, 3, 4, 10


@pytest.fixture
def kv() -> FrameKV:
    """Empty storage."""
    return FrameKV(
        layers=LAYERS,
        kv_heads=HEADS,
        head_dim=DIM,
        capacity=CAPACITY,
        dtype=torch.bfloat16,
        device=torch.device("cpu"),
    )


def rows(*values: float) -> Tensor:
    """[heads, rows, dim], each row filled with one number."""
    return torch.tensor(values, dtype=torch.bfloat16)[None, :, None].expand(HEADS, -1, DIM)


def read(kv: FrameKV, layer: int) -> tuple[list[float], list[float]]:
    """The first number of every row that a pass would see."""
    keys, values = kv.write(layer, torch.empty(0, dtype=torch.long), rows(), rows())
    return keys[0, :, 0].tolist(), values[0, :, 0].tolist()


def test_rows_land_at_their_positions(kv: FrameKV) -> None:
    """Keys and values written in any order are read by position, up to the length reserved."""
    kv.reserve(4)
    keys, values = kv.write(0, torch.tensor([3, 0, 1]), rows(30, 1, 10), rows(31, 2, 11))

    assert keys.shape == values.shape == (HEADS, 4, DIM)
    assert keys[1, :, 2].tolist() == [1, 10, 0, 30]
    assert values[1, :, 2].tolist() == [2, 11, 0, 31]


def test_an_overwritten_row_changes_and_its_neighbours_stay(kv: FrameKV) -> None:
    """A row keeps its value until it is written again."""
    kv.reserve(3)
    kv.write(0, torch.tensor([0, 1, 2]), rows(1, 2, 3), rows(4, 5, 6))
    kv.write(0, torch.tensor([1]), rows(7), rows(8))

    assert read(kv, 0) == ([1, 7, 3], [4, 8, 6])


def test_layers_are_apart(kv: FrameKV) -> None:
    """Writing one layer leaves the other alone."""
    kv.reserve(2)
    kv.write(1, torch.tensor([0, 1]), rows(1, 2), rows(3, 4))

    assert read(kv, 0) == ([0, 0], [0, 0])
    assert read(kv, 1) == ([1, 2], [3, 4])


def test_reads_are_views(kv: FrameKV) -> None:
    """Reading copies nothing: what a pass gets is the storage itself."""
    kv.reserve(2)
    first, _ = kv.write(0, torch.tensor([0]), rows(1), rows(1))
    second, _ = kv.write(0, torch.tensor([1]), rows(2), rows(2))

    assert first.data_ptr() == second.data_ptr()


def test_reserving_never_shrinks(kv: FrameKV) -> None:
    """Recomputing an early row keeps later ones in sight."""
    kv.reserve(7)
    kv.reserve(3)

    assert kv.length == 7


def test_too_long_a_sequence_is_refused_before_anything_changes(kv: FrameKV) -> None:
    """One token over the capacity is an error that gives both numbers."""
    kv.reserve(CAPACITY)

    with pytest.raises(ValueError, match="11 tokens does not fit a cache of 10"):
        kv.reserve(CAPACITY + 1)
    assert kv.length == CAPACITY


def test_nbytes_is_what_the_storage_takes(kv: FrameKV) -> None:
    """Keys and values, every layer, head and position, two bytes each in bfloat16."""
    kv.reserve(CAPACITY)
    keys, values = kv.write(0, torch.tensor([0]), rows(1), rows(1))
    held = keys.untyped_storage().nbytes() + values.untyped_storage().nbytes()

    assert kv.nbytes == held == 2 * LAYERS * HEADS * CAPACITY * DIM * 2
