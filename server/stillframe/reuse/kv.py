"""KV storage: one pool of equal slots, each written at absolute positions.

Knows layers, positions and bytes; no family, no session.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.nn import functional

from stillframe.errors import ConfigError, StillframeError

MIB = 2**20


class KVCorrupted(StillframeError):
    """Keys or values that no pass can have written: not finite, or missing."""


@dataclass(frozen=True)
class KVShape:
    """Shape of one sequence's keys and values."""

    layers: int
    kv_heads: int
    head_dim: int
    capacity: int  # tokens
    dtype: torch.dtype
    device: torch.device
    beside_bytes: int = 0  # that who holds them takes as well, in other memory: of pictures

    @property
    def nbytes(self) -> int:
        """Bytes of keys and values together."""
        return 2 * self.layers * self.kv_heads * self.capacity * self.head_dim * self.dtype.itemsize

    @property
    def slot_bytes(self) -> int:
        """What a slot of a pool counts for."""
        return self.nbytes + self.beside_bytes

    def allocate(self, *slots: int) -> Tensor:
        """Zeros [*slots, 2, layers, kv_heads, capacity, head_dim]: keys, then values."""
        sizes = (*slots, 2, self.layers, self.kv_heads, self.capacity, self.head_dim)
        return torch.zeros(sizes, dtype=self.dtype, device=self.device)


class FrameKV:
    """Keys and values of one sequence, addressed by absolute position.

    Rows may be written in any order and again; a row keeps its value until it is written.
    """

    def __init__(self, storage: Tensor):
        """Use `storage` [2, layers, kv_heads, capacity, head_dim]."""
        self._storage = storage
        self.capacity: int = storage.shape[-2]  # tokens
        self.length = 0  # tokens: one past the last position that reads see
        self._pruned: list[tuple[int, Tensor, int]] = []  # from which layer on, positions left, of how many
        self._weights: list[tuple[int, Tensor]] = []  # from which layer on, what is added to scores of those left

    @property
    def nbytes(self) -> int:
        """Bytes allocated."""
        return self._storage.nbytes

    @property
    def device(self) -> torch.device:
        """The storage's device."""
        return self._storage.device

    def write(self, layer: int, positions: Tensor, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        """Write rows at `positions` [rows]; keys and values are [kv_heads, rows, head_dim].

        Returns the layer's keys and values up to `length`, without those of positions pruned there: valid until the
        next write.
        """
        own_keys, own_values = self._storage[0, layer], self._storage[1, layer]
        own_keys.index_copy_(1, positions, keys)
        own_values.index_copy_(1, positions, values)
        visible = self.visible(layer)
        if visible is not None:
            return own_keys.index_select(1, visible), own_values.index_select(1, visible)
        return own_keys[:, : self.length], own_values[:, : self.length]

    def keys(self, layer: int, length: int) -> Tensor:
        """The keys [kv_heads, length, head_dim] of one layer: a view."""
        return self._storage[0, layer, :, :length]

    def rows(self, first: int, stop: int) -> tuple[Tensor, Tensor]:
        """Keys and values [layers, kv_heads, stop - first, head_dim] of adjoining positions: views."""
        return self._storage[0, :, :, first:stop], self._storage[1, :, :, first:stop]

    def reserve(self, length: int) -> None:
        """Make positions below `length` visible to the reads that follow."""
        if length > self.capacity:
            raise ValueError(f"a sequence of {length} tokens does not fit a cache of {self.capacity}")
        self.length = max(self.length, length)

    def begin(self) -> None:
        """Start a sequence over the old rows: none is visible until it is reserved, none is cleared."""
        self.length = 0
        self._pruned, self._weights = [], []

    def prune(self, layer: int, kept: Tensor, weights: Tensor | None = None) -> None:
        """From `layer` on reads see only the positions `kept` [n], rising, of those below `length`; and later ones.

        `weights` [up to n] are added to scores of attention to the first of these; None: nothing is.
        Until `begin`. A further call is for a deeper layer, and keeps some of these.
        """
        self._pruned.append((layer, kept, self.length))
        if weights is not None:
            self._weights.append((layer, weights))

    def weights(self, layer: int) -> Tensor | None:
        """What is added to scores of attention to each position that reads of a layer see; None: nothing."""
        own = [each for first, each in self._weights if first <= layer]
        visible = self.visible(layer) if own else None
        return None if visible is None else functional.pad(own[-1], (0, len(visible) - len(own[-1])))

    def visible(self, layer: int) -> Tensor | None:
        """The positions that reads of a layer see, rising; None: all below `length`."""
        own = [pruned for pruned in self._pruned if pruned[0] <= layer]
        if not own:
            return None
        _, kept, length = own[-1]
        return kept if length == self.length else torch.cat((kept, torch.arange(length, self.length).to(kept)))

    @property
    def is_pruned(self) -> bool:
        """Whether reads of some layer do not see every position."""
        return bool(self._pruned)

    def pruned_rows(self, layers: int) -> tuple[int, ...]:
        """How many positions reads do not see, in each of so many layers."""
        counts = [0] * layers
        for first, kept, length in self._pruned:
            counts[first:] = [length - len(kept)] * (layers - first)
        return tuple(counts)

    def check_integrity(self, rows: int, places: range = range(0)) -> None:
        """Raise KVCorrupted unless the first `rows` tokens were all written, with finite numbers, in every layer.

        `places`: positions that enter the first layer as zeros, and so have keys of zeros there.
        """
        held = self._storage[:, :, :, :rows]
        finite = [layer.isfinite().all() for layer in held.unbind(1)]  # at once it would take twice the slot's memory
        if not bool(torch.stack(finite).all()):
            raise KVCorrupted("keys or values are not finite: the model returned NaN or infinity, or memory is damaged")
        written = held[0].any(dim=-1)  # [layers, kv_heads, rows]
        written[0, :, places.start : places.stop] = True
        if not bool(written.all()):
            raise KVCorrupted(f"of {rows} tokens not every one has keys in every layer")


class KVPool:
    """Slots for as many sequences as a byte budget holds, in one piece of memory that is taken once.

    `storage` [slots, 2, layers, kv_heads, capacity + 1, head_dim] is that piece. The position past the last one is
    scratch: there a pass of a fixed shape writes its padding rows. It comes on top of the budget.
    """

    def __init__(self, shape: KVShape, budget_bytes: int):
        slots = budget_bytes // shape.slot_bytes
        if slots < 1:
            needed, given = shape.slot_bytes / MIB, budget_bytes / MIB
            raise ConfigError(
                f"the KV budget is {given:.1f} MiB; one session of this checkpoint needs {needed:.1f} MiB"
            )
        self.shape = shape
        self.budget_bytes = slots * shape.slot_bytes  # of whole slots
        self.storage = _allocated(shape, slots)
        self._free = [FrameKV(slot[..., : shape.capacity, :]) for slot in self.storage]
        self._indices = {
            id(kv): index for index, kv in enumerate(self._free)
        }  # stable: the pool keeps the objects alive
        self._all = (*self._free,)

    @property
    def in_use_bytes(self) -> int:
        """Bytes of the acquired slots."""
        return (len(self._all) - len(self._free)) * self.shape.slot_bytes

    @property
    def free(self) -> int:
        """Number of free slots."""
        return len(self._free)

    def slot_of(self, kv: FrameKV) -> int | None:
        """Its index into `storage`; None for KV outside the pool."""
        return self._indices.get(id(kv))

    def acquire(self) -> FrameKV | None:
        """A free slot, not cleared; None when there is none."""
        return self._free.pop() if self._free else None

    def release(self, kv: FrameKV) -> None:
        """Give a slot back."""
        kv.begin()
        self._free.append(kv)


def _allocated(shape: KVShape, slots: int) -> Tensor:
    """Allocate all slots. Raises ConfigError where the device is out of memory."""
    try:
        return replace(shape, capacity=shape.capacity + 1).allocate(slots)
    except RuntimeError as error:  # torch.OutOfMemoryError is one; a CPU's is plain
        needed = f"{slots * shape.nbytes / MIB:.0f} MiB ({slots} slots of {shape.nbytes / MIB:.1f})"
        raise ConfigError(
            f"no room on {shape.device} for keys and values: {needed}; lower reuse.kv_budget_mib"
        ) from error
