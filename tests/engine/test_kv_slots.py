from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

from stillframe.engine.kv_slots import SlotAllocator, budget_bytes
from stillframe.errors import ConfigError
from stillframe.reuse.kv import MIB, FrameKV, KVShape
from stillframe.reuse.settings import ReuseSettings

SHAPE = KVShape(layers=2, kv_heads=1, head_dim=4, capacity=10, dtype=torch.float32, device=torch.device("cpu"))


def stored(slots: int, give_up: Callable[[], bool] = lambda: False) -> SlotAllocator:
    """So many slots for sessions, and the spare one."""
    return SlotAllocator(SHAPE, (slots + 1) * SHAPE.nbytes, give_up)


def kept(storage: SlotAllocator) -> FrameKV:
    """A slot that a session holds."""
    kv = storage.acquire()
    assert kv is not None
    storage.commit(kv)
    return kv


def in_pool(storage: SlotAllocator, kv: FrameKV) -> bool:
    """Whether it is a slot, and not memory of its own."""
    return storage.pool.slot_of(kv) is not None


def test_a_prompt_fits_to_the_last_row() -> None:
    """Ten rows into ten, not eleven; what does not fit gets as much memory as it needs, of its own."""
    storage = stored(1)
    room = storage.scratch(11)

    assert [storage.fits(rows) for rows in (1, 10, 11)] == [True, True, False]
    assert (room.capacity, in_pool(storage, room)) == (11, False)
    assert storage.scratch(10) is storage.spare


def test_frames_of_no_session_leave_as_many_slots_as_are_wanted() -> None:
    """The spare slot, then free ones but for the last two; then memory of their own. No two lie in one place."""
    storage = stored(4)
    rooms = [storage.scratch(10, reserve=2) for _ in range(5)]

    assert [in_pool(storage, kv) for kv in rooms] == [True, True, True, False, False]
    assert len({id(kv) for kv in rooms}) == 5
    assert [storage.acquire() is not None for _ in range(3)] == [True, True, False]


def test_beside_a_session_that_keeps_a_slot_there_is_only_the_spare_one() -> None:
    """However many are free. A slot that was lent and is not kept yet does not count."""
    storage = stored(4)
    assert storage.acquire() is not None
    assert [in_pool(storage, storage.scratch(10)) for _ in range(2)] == [True, True]
    storage.release_uncommitted()
    kept(storage)

    assert [in_pool(storage, storage.scratch(10)) for _ in range(2)] == [True, False]


def test_what_was_lent_comes_back_and_what_is_kept_does_not() -> None:
    """Step after step: the spare slot stays where it is, a session's is held until it is given back."""
    storage = stored(3)
    for _ in range(4):
        held, lent = kept(storage), storage.acquire()
        assert lent is not None
        assert storage.scratch(10) is storage.spare
        assert storage.in_use_bytes == 2 * SHAPE.nbytes
        storage.release_uncommitted()
        storage.release_uncommitted()
        assert (storage.in_use_bytes, storage.pool.free) == (SHAPE.nbytes, 2)
        storage.release(held)

    assert (storage.in_use_bytes, storage.pool.free) == (0, 3)


def test_a_slot_may_cost_others_theirs() -> None:
    """It is asked for until there is one, or until there is none to be had."""
    held: list[FrameKV] = []
    asked: list[int] = []

    def give_up() -> bool:
        asked.append(len(held))
        if len(asked) % 2:
            return True  # who goes may have held none
        if held:
            storage.release(held.pop())
            return True
        return False

    storage = stored(1, give_up)
    held.append(kept(storage))

    assert storage.acquire() is not None
    assert asked == [1, 1]
    assert storage.acquire() is None
    assert asked == [1, 1, 0, 0]


def test_the_spare_slot_changes_places_with_a_sessions() -> None:
    """What it had is spare now, and is lent as such; nothing is freed by it."""
    storage = stored(1)
    own, spare = kept(storage), storage.spare
    storage.swap_spare(own)

    assert storage.scratch(10) is own
    storage.release_uncommitted()
    assert (storage.in_use_bytes, storage.pool.free) == (SHAPE.nbytes, 0)
    storage.release(spare)
    assert storage.in_use_bytes == 0


def test_bytes_are_those_of_sessions() -> None:
    """The spare slot counts neither as held nor as room."""
    storage = stored(3)
    assert (storage.slots, storage.budget_bytes, storage.in_use_bytes) == (3, 3 * SHAPE.nbytes, 0)
    kept(storage)

    assert storage.in_use_bytes == SHAPE.nbytes


@pytest.mark.parametrize(("slots", "taken"), [(2.0, True), (1.99, False), (1.0, False)])
def test_a_budget_holds_a_session_and_the_spare_slot(slots: float, *, taken: bool) -> None:
    """Two slots at least; without a budget there is room for those that are named, and the spare one."""
    settings = ReuseSettings(kv_budget_mib=slots * SHAPE.nbytes / MIB)
    asked: Any = None
    if taken:
        asked = budget_bytes(settings, SHAPE, 5)
    else:
        with pytest.raises(ConfigError, match="at least"):
            budget_bytes(settings, SHAPE, 5)

    assert asked == (2 * SHAPE.nbytes if taken else None)
    assert budget_bytes(ReuseSettings(), SHAPE, 5) == 6 * SHAPE.nbytes
