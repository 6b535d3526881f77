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
    """All keys and values of one model. `spare` is for passes beside a session's own slot, one at a time."""

    def __init__(self, shape: KVShape, budget_bytes: int, give_up: Callable[[], bool]):
        """Take the memory. `give_up` is called when every slot is held: it releases one, or says that none can be.

        Raises ConfigError.
        """
        self._pool = KVPool(shape, budget_bytes)
        self._give_up = give_up
        self._lent: list[FrameKV] = []  # until they are kept or put away
        self.spare = self._first()

    @property
    def pool(self) -> KVPool:
        """Where the slots lie."""
        return self._pool

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

    def room(self, rows: int, leave: int = 0) -> FrameKV:
        """Room for a frame that nobody remembers: the spare slot, or a free one as long as no session keeps any.

        Not one of the last `leave`, which sessions may be about to ask for. Else, or where a slot is too small, memory
        of its own.
        """
        kv = None
        if self.fits(rows) and self.spare not in self._lent:
            kv = self.spare
        elif self.fits(rows) and self._nobody_keeps and self._pool.free > leave:
            kv = self._pool.acquire()
        if kv is None:
            return FrameKV(replace(self._pool.shape, capacity=rows).allocate())
        self._lent.append(kv)
        return kv

    def slot(self) -> FrameKV | None:
        """A slot to keep, which may cost another session its own; None where nobody can give one up."""
        kv = self._pool.acquire()
        while kv is None and self._give_up():
            kv = self._pool.acquire()
        if kv is not None:
            self._lent.append(kv)
        return kv

    def keep(self, kv: FrameKV) -> None:
        """A slot that was lent has a holder."""
        self._lent = [lent for lent in self._lent if lent is not kv]

    def put_away(self) -> None:
        """A frame is over: what was lent and not kept comes back."""
        for kv in self._lent:
            if kv is not self.spare:
                self._pool.release(kv)
        self._lent = []

    def exchange_spare(self, instead: FrameKV) -> None:
        """The spare slot is a session's now; that which it had is spare."""
        self.spare = instead

    def release(self, kv: FrameKV) -> None:
        """Give a slot back."""
        self._pool.release(kv)

    @property
    def _nobody_keeps(self) -> bool:
        """Whether no session has a slot, apart from those lent now."""
        lent = sum(kv is not self.spare for kv in self._lent)
        return self.in_use_bytes == lent * self._pool.shape.nbytes

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
