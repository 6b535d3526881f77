"""Storage: the slots of the KV pool, one of which is always spare; sessions hold the others.

Knows rows and bytes; not whose a slot is, but whom to ask for one.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from stillframe.errors import ConfigError
from stillframe.models.base import PolicyModel
from stillframe.reuse.kv import MIB, FrameKV, KVPool, KVShape
from stillframe.reuse.settings import ReuseSettings


class Storage:
    """All keys and values of one model. `spare` is for what nobody remembers, and for passes beside a session's own."""

    def __init__(self, shape: KVShape, budget_bytes: int, give_up: Callable[[], None]):
        """Take the memory. `give_up` is called when every slot is held: it has to release one. Raises ConfigError."""
        self._pool = KVPool(shape, budget_bytes)
        self._give_up = give_up
        self.spare = self._lend()

    @property
    def in_use_bytes(self) -> int:
        """Of the slots that sessions hold."""
        return self._pool.in_use_bytes - self._pool.shape.nbytes

    @property
    def budget_bytes(self) -> int:
        """Of the slots that sessions may hold."""
        return self._pool.budget_bytes - self._pool.shape.nbytes

    @property
    def slots(self) -> int:
        """How many sessions can hold one at once."""
        return self.budget_bytes // self._pool.shape.nbytes

    def fits(self, rows: int) -> bool:
        """Whether a slot holds a prompt and its action of so many rows."""
        return rows <= self._pool.shape.capacity

    def room(self, rows: int) -> FrameKV:
        """Room for a frame that nobody remembers: the spare slot, or memory of its own if it is too long for that."""
        return self.spare if self.fits(rows) else FrameKV(replace(self._pool.shape, capacity=rows).allocate())

    def hand_over_spare(self, instead: FrameKV | None) -> None:
        """The spare slot is a session's now; `instead`, or another slot, is spare."""
        self.spare = instead or self._lend()

    def release(self, kv: FrameKV) -> None:
        """Give a slot back."""
        self._pool.release(kv)

    def _lend(self) -> FrameKV:
        while (kv := self._pool.acquire()) is None:
            self._give_up()
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


def budget_bytes(settings: ReuseSettings, shape: KVShape, default_sessions: int) -> int:
    """As configured; by default room for so many sessions and the spare slot. Raises ConfigError for less than two."""
    if settings.kv_budget_mib is None:
        return (default_sessions + 1) * shape.nbytes
    configured = int(settings.kv_budget_mib * MIB)
    if configured < 2 * shape.nbytes:
        raise ConfigError(
            f"reuse.kv_budget_mib is {settings.kv_budget_mib:g}; this checkpoint needs at least "
            f"{2 * shape.nbytes / MIB:.1f} MiB: a slot for one session and a spare one"
        )
    return configured
