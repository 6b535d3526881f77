"""How much GPU memory a deployment takes, and which settings would fit where it takes too much.

Knows bytes and a decoder's sizes; asks no device. Weights, keys and values and buffers are counted; what a pass needs
beside them is estimated until capture has shown it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from stillframe.models.graphs.shapes import ALIGNED, GraphShape
from stillframe.models.llama.decoder import DecoderConfig

MIB = 2**20
WORKSPACES = 64 * MIB  # of cuBLAS and its like, on the stream on which passes are captured
LEFT_FREE = 256 * MIB  # for eager passes now and then, and for fragmentation
QUANTISED = "; quantised weights take less (weights: int8, or another kind of docs/quantised.md)"
SLOTS_AT_LEAST = 2  # a session's and the spare one


@dataclass(frozen=True)
class MemoryDemand:
    """What a deployment needs, in bytes."""

    weights: int
    slot: int  # one slot of the KV pool
    slots: int
    graphs: Mapping[int, int]  # largest batch size -> buffers and temporaries of all passes
    item: int = 2  # of one number that is not quantised
    quantised: bool = False  # whether the decoder's layers are

    @property
    def pool(self) -> int:
        """All keys and values."""
        return self.slot * self.slots

    @property
    def largest(self) -> int:
        """The graphs of all batch sizes."""
        return max(self.graphs.values(), default=0)

    def __str__(self) -> str:
        """For the log."""
        pool = f"{self.slots} slots of {mib(self.slot)} = {mib(self.pool)}"
        return f"weights {mib(self.weights)}, KV pool {pool}, graphs about {mib(self.largest)}"

    def refusal(self, room: int) -> str | None:
        """Why it does not fit into `room` (bytes that are free beside the weights), and what would; None: it fits."""
        asked = self.pool + self.largest + LEFT_FREE
        if asked <= room:
            return None
        what = (
            f"beside {mib(self.weights)} of weights the GPU has {mib(room)} free, and {mib(asked)} are asked for: "
            f"{self.slots} slots of {mib(self.slot)}, {mib(self.largest)} for passes, {mib(LEFT_FREE)} to spare"
        )
        ways = [*self._ways(room)]
        way = "it would do with " + " or ".join(ways) if ways else "it takes a GPU with more memory"
        return f"{what}; {way}{'' if self.quantised else QUANTISED}"

    def _ways(self, room: int) -> Iterator[str]:
        """Changes, each of which is enough by itself."""
        slots = (room - self.largest - LEFT_FREE) // self.slot
        if slots >= SLOTS_AT_LEAST:
            yield f"{slots} slots (reuse.kv_budget_mib: {-(-slots * self.slot // MIB)})"
        fitting = [batch for batch, graphs in self.graphs.items() if self.pool + graphs + LEFT_FREE <= room]
        if fitting:
            yield f"fewer batch sizes (graphs.batches up to {max(fitting)})"
        elif self.pool + LEFT_FREE <= room:
            yield "no graphs (graphs.enabled: false)"
        if self.item > 2 and (self.weights + self.pool + self.largest) // 2 + LEFT_FREE <= room + self.weights:
            yield "half the bytes (dtype: bfloat16)"


@dataclass(frozen=True)
class MemoryUsed:
    """What a deployment has taken, in bytes."""

    weights: int
    slot: int
    slots: int
    graphs: int
    free: int

    def __str__(self) -> str:
        """For the log."""
        pool = f"{self.slots} slots of {mib(self.slot)} = {mib(self.slot * self.slots)}"
        return f"weights {mib(self.weights)}, KV pool {pool}, graphs {mib(self.graphs)}, free {mib(self.free)}"


def graph_bytes(sizes: DecoderConfig, shapes: Sequence[GraphShape], *, capacity: int, hook_rows: int, item: int) -> int:
    """What captured passes take: their buffers, and the temporaries of the largest of them, which all share."""
    if not shapes:
        return 0
    width = sizes.hidden_size
    entering = max(shape.batch * shape.entering for shape in shapes)
    surviving = max(shape.batch * shape.surviving for shape in shapes)
    outputs = max(shape.batch * shape.outputs for shape in shapes)
    hooked = sizes.num_hidden_layers * max(shape.batch for shape in shapes) * hook_rows
    buffers = width * (entering + outputs + hooked) * item + 8 * (entering + surviving)
    return buffers + max(_temporaries(sizes, shape, capacity, item) for shape in shapes) + WORKSPACES


def weights_exceed(weights: int, room: int, item: int, *, quantised: bool = False) -> str | None:
    """Why weights of so many bytes cannot be loaded into `room`, and what could; None: they fit."""
    if weights <= room:
        return None
    halves = item > 2 and weights // 2 <= room
    way = "it would do with half the bytes (dtype: bfloat16)" if halves else "it takes a GPU with more memory"
    return f"the weights are {mib(weights)}, and the GPU has {mib(room)} free; {way}{'' if quantised else QUANTISED}"


def mib(size: int) -> str:
    """Bytes, as the log and errors name them."""
    return f"{size / MIB:,.0f} MiB"


def _temporaries(sizes: DecoderConfig, shape: GraphShape, capacity: int, item: int) -> int:
    """The most that is alive at once in a layer: of its attention or of its feed-forward, beside the rows."""
    width, kv_width = sizes.hidden_size, sizes.num_key_value_heads * sizes.head_dim
    entering, surviving = shape.batch * shape.entering, shape.batch * shape.surviving
    mask = surviving * (capacity + ALIGNED)
    keys_values = 2 * shape.batch * (capacity + 1) * (kv_width + (width if kv_width < width else 0))
    attention = entering * (width + 4 * kv_width) + surviving * 4 * width + keys_values
    feed_forward = surviving * (2 * width + 4 * sizes.intermediate_size)
    return item * (surviving * width + 2 * mask + max(attention, feed_forward))
