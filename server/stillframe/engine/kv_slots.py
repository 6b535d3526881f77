"""SlotAllocator: the slots of the KV pool, one of which is always spare; sessions hold the others.

Knows rows and bytes; not which session has a slot, but a function that evicts one.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from stillframe.engine.kept_picture import kept_bytes
from stillframe.errors import ConfigError
from stillframe.models.base import PolicyModel
from stillframe.reuse.kv import MIB, FrameKV, KVPool, KVShape
from stillframe.reuse.settings import ReuseSettings

DEFAULT_SESSIONS = 16  # that the pool has room for where the configuration names no bytes


class SlotAllocator:
    """All keys and values of one model. `spare` is for passes beside a session's own slot, one at a time."""

    def __init__(self, shape: KVShape, budget_bytes: int, evict: Callable[[], bool]):
        """Allocate the pool. `evict` is called when every slot is held: it releases one, or says that none can be.

        Raises ConfigError.
        """
        self._pool = KVPool(shape, budget_bytes)
        self._evict = evict
        self._uncommitted: list[FrameKV] = []  # since the batch began
        self.spare = self._first()

    @property
    def pool(self) -> KVPool:
        """The memory of all slots."""
        return self._pool

    @property
    def in_use_bytes(self) -> int:
        """Of the slots that sessions hold."""
        return self._pool.in_use_bytes - self._pool.shape.slot_bytes

    @property
    def budget_bytes(self) -> int:
        """Of the slots that sessions may hold."""
        return self._pool.budget_bytes - self._pool.shape.slot_bytes

    @property
    def slots(self) -> int:
        """How many sessions can hold one at once."""
        return self.budget_bytes // self._pool.shape.slot_bytes

    def fits(self, rows: int) -> bool:
        """Whether a slot holds a prompt and its action of so many rows."""
        return rows <= self._pool.shape.capacity

    def scratch(self, rows: int, reserve: int = 0) -> FrameKV:
        """KV memory for an uncached frame: the spare slot, a free slot, or a fresh allocation, in that order.

        A free slot only as long as no session holds any, and not one of the last `reserve`, which sessions of the batch
        may be about to acquire. A fresh allocation also where a slot is too small.
        """
        kv = None
        if self.fits(rows) and self.spare not in self._uncommitted:
            kv = self.spare
        elif self.fits(rows) and self._no_session_holds and self._pool.free > reserve:
            kv = self._pool.acquire()
        if kv is None:
            return FrameKV(replace(self._pool.shape, capacity=rows).allocate())
        self._uncommitted.append(kv)
        return kv

    def acquire(self) -> FrameKV | None:
        """A slot for a session, which may evict another session; None where none can be evicted."""
        kv = self._pool.acquire()
        while kv is None and self._evict():
            kv = self._pool.acquire()
        if kv is not None:
            self._uncommitted.append(kv)
        return kv

    def take_spare(self) -> FrameKV | None:
        """The spare slot, for a frame whose session has one of its own; None where a frame of the batch has it.

        It is still spare, unless it is swapped.
        """
        if self.spare in self._uncommitted:
            return None
        self._uncommitted.append(self.spare)
        return self.spare

    def commit(self, kv: FrameKV) -> None:
        """A session holds this slot from now on."""
        self._uncommitted = [uncommitted for uncommitted in self._uncommitted if uncommitted is not kv]

    def release_uncommitted(self) -> None:
        """The batch is over: free every slot that was not committed."""
        for kv in self._uncommitted:
            if kv is not self.spare:
                self._pool.release(kv)
        self._uncommitted = []

    def swap_spare(self, other: FrameKV) -> None:
        """The spare slot is a session's now; `other`, which the session had, is spare."""
        self.spare = other

    def release(self, kv: FrameKV) -> None:
        """Free a slot."""
        self._pool.release(kv)

    @property
    def _no_session_holds(self) -> bool:
        """Whether no session holds a slot, apart from those acquired in this batch."""
        uncommitted = sum(kv is not self.spare for kv in self._uncommitted)
        return self.in_use_bytes == uncommitted * self._pool.shape.slot_bytes

    def _first(self) -> FrameKV:
        kv = self._pool.acquire()
        if kv is None:
            raise RuntimeError("a pool without a slot")
        return kv


def kv_shape(model: PolicyModel, text_tokens: int) -> KVShape:
    """What a session of this model takes, prompts of up to `text_tokens` provided."""
    config = model.decoder.config
    return KVShape(
        layers=config.num_hidden_layers,
        kv_heads=config.num_key_value_heads,
        head_dim=config.head_dim,
        capacity=model.fixed_rows + text_tokens,
        dtype=model.dtype,
        device=model.device,
    )


def slot_shape(model: PolicyModel, settings: ReuseSettings) -> KVShape:
    """The same as these settings have it, with what a session keeps of its pictures."""
    shape = kv_shape(model, settings.slot_text_tokens)
    return replace(shape, beside_bytes=kept_bytes(model, settings))


def budget_bytes(settings: ReuseSettings, shape: KVShape, default_sessions: int) -> int:
    """As configured; by default room for so many sessions and the spare slot. Raises ConfigError for less than two."""
    if settings.kv_budget_mib is None:
        return (default_sessions + 1) * shape.slot_bytes
    configured = int(settings.kv_budget_mib * MIB)
    if configured < 2 * shape.slot_bytes:
        raise ConfigError(
            f"reuse.kv_budget_mib is {settings.kv_budget_mib:g}; this checkpoint needs at least "
            f"{2 * shape.slot_bytes / MIB:.1f} MiB: a slot for one session and a spare one"
        )
    return configured
