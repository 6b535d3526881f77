from __future__ import annotations

import contextlib

import pytest
import torch
from torch import Tensor

from stillframe.errors import ConfigError
from stillframe.reuse.kv import MIB, FrameKV, KVCorrupted, KVPool, KVShape

LAYERS, HEADS, DIM, CAPACITY = 2, 3, 4, 10
SHAPE = KVShape(LAYERS, HEADS, DIM, CAPACITY, torch.bfloat16, torch.device("cpu"))


@pytest.fixture
def kv() -> FrameKV:
    """Empty storage."""
    return FrameKV(SHAPE.allocate())


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
    held = keys.untyped_storage().nbytes()

    assert kv.nbytes == SHAPE.nbytes == held == 2 * LAYERS * HEADS * CAPACITY * DIM * 2
    assert keys.untyped_storage().data_ptr() == values.untyped_storage().data_ptr()


def test_keys_are_read_without_writing(kv: FrameKV) -> None:
    """One layer's keys up to a length, as they lie in the storage."""
    kv.reserve(3)
    written, _ = kv.write(1, torch.tensor([0, 1, 2]), rows(1, 2, 3), rows(4, 5, 6))

    assert kv.keys(1, 2)[0, :, 0].tolist() == [1, 2]
    assert kv.keys(1, 2).data_ptr() == written.data_ptr()
    assert kv.keys(0, 2)[0, :, 0].tolist() == [0, 0]


def test_a_new_sequence_finds_the_rows_of_the_last(kv: FrameKV) -> None:
    """Beginning hides everything until it is reserved again, and loses nothing."""
    kv.reserve(3)
    kv.write(0, torch.tensor([0, 1, 2]), rows(1, 2, 3), rows(4, 5, 6))
    kv.begin()
    hidden = read(kv, 0)
    kv.reserve(2)

    assert hidden == ([], [])
    assert read(kv, 0) == ([1, 2], [4, 5])


def test_pruned_positions_are_not_read(kv: FrameKV) -> None:
    """From a layer on, until a sequence begins; positions that are reserved later are read."""
    kv.reserve(4)
    for layer in range(LAYERS):
        kv.write(layer, torch.arange(4), rows(1, 2, 3, 4), rows(5, 6, 7, 8))
    kv.prune(1, torch.tensor([0, 3]))

    assert [read(kv, layer) for layer in range(LAYERS)] == [([1, 2, 3, 4], [5, 6, 7, 8]), ([1, 4], [5, 8])]
    kv.reserve(5)
    kv.write(1, torch.tensor([4]), rows(9), rows(9))
    assert read(kv, 1) == ([1, 4, 9], [5, 8, 9])
    assert kv.is_pruned
    kv.begin()
    kv.reserve(2)
    assert read(kv, 1) == ([1, 2], [5, 6])
    assert not kv.is_pruned


def test_a_second_pruning_holds_from_its_layer_on(kv: FrameKV) -> None:
    """Each layer sees what the last one above it left; what is not seen is counted layer by layer."""
    kv.reserve(6)
    kv.prune(1, torch.tensor([0, 3, 5]))
    kv.prune(3, torch.tensor([0, 5]))
    kv.reserve(8)

    assert kv.visible(0) is None
    assert [kv.visible(layer).tolist() for layer in (1, 2, 3)] == [[0, 3, 5, 6, 7], [0, 3, 5, 6, 7], [0, 5, 6, 7]]
    assert kv.pruned_rows(layers=4) == (0, 3, 3, 4)


def whole(kv: FrameKV, count: int) -> None:
    """Write the first `count` rows of every layer."""
    kv.reserve(count)
    for layer in range(LAYERS):
        kv.write(layer, torch.arange(count), rows(*range(1, count + 1)), rows(*range(count)))


def test_rows_that_were_all_written_are_sound(kv: FrameKV) -> None:
    """Finite keys and values pass, also where a value is zero; what lies beyond is not looked at."""
    whole(kv, 4)
    for layer in range(LAYERS):
        kv.write(layer, torch.tensor([5]), rows(float("nan")), rows(float("inf")))

    kv.check_integrity(4)


@pytest.mark.parametrize("number", [float("nan"), float("inf"), float("-inf")])
@pytest.mark.parametrize("which", ["keys", "values"])
def test_numbers_that_are_not_finite_are_found(kv: FrameKV, number: float, which: str) -> None:
    """One of them in one row of one layer is enough."""
    whole(kv, 4)
    spoilt, sound = rows(number), rows(1)
    kv.write(1, torch.tensor([3]), *((spoilt, sound) if which == "keys" else (sound, spoilt)))

    with pytest.raises(KVCorrupted, match="not finite"):
        kv.check_integrity(4)


def test_a_row_that_was_never_written_is_found(kv: FrameKV) -> None:
    """A layer that a pass did not get to leaves zeros, which no key is."""
    whole(kv, 4)
    kv.reserve(5)
    kv.write(0, torch.tensor([4]), rows(1), rows(1))

    with pytest.raises(KVCorrupted, match="of 5 tokens not every one"):
        kv.check_integrity(5)


@pytest.mark.parametrize("layer", [0, 1])
def test_rows_that_only_hold_a_place_have_no_keys_in_the_first_layer(kv: FrameKV, layer: int) -> None:
    """Zeros come in, so zeros are written; from the second layer on they are rows like others."""
    whole(kv, 4)
    kv.write(layer, torch.tensor([2]), rows(0), rows(0))

    with pytest.raises(KVCorrupted):
        kv.check_integrity(4)
    with contextlib.nullcontext() if layer == 0 else pytest.raises(KVCorrupted):
        kv.check_integrity(4, range(2, 3))


@pytest.mark.parametrize(("spare_bytes", "slots"), [(0, 3), (SHAPE.nbytes - 1, 3), (-1, 2)])
def test_a_pool_has_as_many_slots_as_its_budget_holds(spare_bytes: int, slots: int) -> None:
    """Never a byte more than the budget is held, and the last slot that fits is there."""
    pool = KVPool(SHAPE, 3 * SHAPE.nbytes + spare_bytes)
    held = [pool.acquire() for _ in range(slots)]

    assert pool.acquire() is None
    assert len({slot.keys(0, 1).data_ptr() for slot in held if slot is not None}) == slots
    assert pool.in_use_bytes == slots * SHAPE.nbytes <= pool.budget_bytes


def test_a_slot_that_comes_back_is_lent_again() -> None:
    """Bytes in use follow what is held; a slot that was given back shows nothing until it is reserved."""
    pool = KVPool(SHAPE, SHAPE.nbytes)
    first = pool.acquire()
    assert first is not None
    first.reserve(3)
    pool.release(first)

    assert pool.in_use_bytes == 0
    assert pool.acquire() is first
    assert first.length == 0


def test_a_budget_without_room_for_one_is_refused() -> None:
    """The error gives both sizes."""
    shape = KVShape(64, 8, 128, 8, torch.float32, torch.device("cpu"))

    with pytest.raises(ConfigError, match=r"budget is 3\.0 MiB; one session of this checkpoint needs 4\.0 MiB"):
        KVPool(shape, 3 * MIB)


def test_the_position_past_the_last_is_scratch() -> None:
    """A pool has a row more in every slot, for what is written and never read; no sequence reaches it."""
    pool = KVPool(SHAPE, 2 * SHAPE.nbytes)
    slot = pool.acquire()
    assert slot is not None

    assert pool.storage.shape == (2, 2, LAYERS, HEADS, CAPACITY + 1, DIM)
    assert slot.capacity == CAPACITY
    with pytest.raises(ValueError, match="11 tokens does not fit a cache of 10"):
        slot.reserve(CAPACITY + 1)


def test_a_slot_says_where_it_lies_in_the_pool() -> None:
    """What is written into a slot is found in the pool's memory under its index; what is none of it has none."""
    pool = KVPool(SHAPE, 3 * SHAPE.nbytes + 1)
    for slot in [pool.acquire() for _ in range(3)]:
        assert slot is not None
        at = pool.slot_of(slot)
        slot.write(1, torch.tensor([CAPACITY - 1]), rows(5), rows(6))

        assert pool.storage[at, 0, 1, :, CAPACITY - 1].eq(5).all()
        assert pool.storage[at, 1, 1, :, CAPACITY - 1].eq(6).all()
    assert pool.storage.ne(0).sum() == 3 * 2 * HEADS * DIM
    assert pool.slot_of(FrameKV(SHAPE.allocate())) is None


def test_a_pool_counts_what_is_held_and_what_is_free() -> None:
    """Whole slots alone are its budget; each that is lent is in use until it comes back."""
    pool = KVPool(SHAPE, 3 * SHAPE.nbytes + 1)
    held = pool.acquire()
    assert held is not None

    assert (pool.budget_bytes, pool.free, pool.in_use_bytes) == (3 * SHAPE.nbytes, 2, SHAPE.nbytes)
    pool.release(held)
    assert (pool.free, pool.in_use_bytes) == (3, 0)


def test_memory_that_is_not_to_be_had_is_said_in_the_terms_of_a_deployment(monkeypatch: pytest.MonkeyPatch) -> None:
    """How much was asked for, in how many slots, and which knob makes it less."""

    def none_left(*_: object, **__: object) -> Tensor:
        raise RuntimeError("out of memory")

    monkeypatch.setattr(torch, "zeros", none_left)

    with pytest.raises(ConfigError, match=r"no room on cpu .* \(3 slots of 0\.0\); lower reuse\.kv_budget_mib"):
        KVPool(SHAPE, 3 * SHAPE.nbytes)


def test_adjoining_rows_are_read_in_every_layer_without_writing(kv: FrameKV) -> None:
    """Keys and values from one position up to another: views."""
    for layer in range(LAYERS):
        kv.write(layer, torch.tensor([2, 3, 4]), rows(*range(3)) + 10 * layer, rows(*range(3)) + 20 + 10 * layer)
    keys, values = kv.rows(3, 5)

    assert keys.shape == values.shape == (LAYERS, HEADS, 2, DIM)
    assert keys[:, 0, :, 0].tolist() == [[1, 2], [11, 12]]
    assert values[:, 0, :, 0].tolist() == [[21, 22], [31, 32]]
    assert keys.data_ptr() == kv.keys(0, CAPACITY)[:, 3:].data_ptr()
