"""What a deployment takes of a GPU's memory, and what would fit where it does not.

Knows bytes and a decoder's sizes; asks no device. Weights, keys and values and buffers are counted; what a pass needs
beside them is estimated, until recording has shown it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from stillframe.models.graphs.shapes import ALIGNED, Form
from stillframe.models.llama.decoder import DecoderConfig

MIB = 2**20
WORKSPACES = 64 * MIB  # of the libraries that multiply, on the stream on which passes are recorded
LEFT_FREE = 256 * MIB  # for eager passes now and then, and for pieces between others
SLOTS_AT_LEAST = 2  # a session's and the spare one


@dataclass(frozen=True)
class Needs:
    """What a deployment asks for, in bytes."""

    weights: int
    slot: int  # one slot of the KV pool
    slots: int
    graphs: Mapping[int, int]  # what passes take in passing and in buffers, if no batch is larger than this
    item: int = 2  # of one number

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
        """Why it does not fit into `room`, bytes that are free beside the weights, and what would; None: it fits."""
        asked = self.pool + self.largest + LEFT_FREE
        if asked <= room:
            return None
        what = (
            f"beside {mib(self.weights)} of weights the GPU has {mib(room)} free, and {mib(asked)} are asked for: "
            f"{self.slots} slots of {mib(self.slot)}, {mib(self.largest)} for passes, {mib(LEFT_FREE)} to spare"
        )
        ways = [*self._ways(room)]
        return f"{what}; it would do with " + " or ".join(ways) if ways else f"{what}; it takes a GPU with more memory"

    def _ways(self, room: int) -> Iterator[str]:
        """Each a change that is enough by itself."""
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
class Taken:
    """What there is once everything stands, in bytes."""

    weights: int
    slot: int
    slots: int
    graphs: int
    free: int

    def __str__(self) -> str:
        """For the log."""
        pool = f"{self.slots} slots of {mib(self.slot)} = {mib(self.slot * self.slots)}"
        return f"weights {mib(self.weights)}, KV pool {pool}, graphs {mib(self.graphs)}, free {mib(self.free)}"


def graph_bytes(sizes: DecoderConfig, forms: Sequence[Form], *, capacity: int, listens: int, item: int) -> int:
    """What recorded passes take: their buffers, and what the largest of them needs in passing, for they share it."""
    if not forms:
        return 0
    width = sizes.hidden_size
    entering = max(form.batch * form.entering for form in forms)
    going = max(form.batch * form.going for form in forms)
    reading = max(form.batch * form.reading for form in forms)
    heard = sizes.num_hidden_layers * max(form.batch for form in forms) * listens
    buffers = width * (entering + reading + heard) * item + 8 * (entering + going)
    return buffers + max(_passing(sizes, form, capacity, item) for form in forms) + WORKSPACES


def too_heavy(weights: int, room: int, item: int) -> str | None:
    """Why weights of so many bytes cannot be loaded into `room`, and what could; None: they fit."""
    if weights <= room:
        return None
    halves = item > 2 and weights // 2 <= room
    way = "it would do with half the bytes (dtype: bfloat16)" if halves else "it takes a GPU with more memory"
    return f"the weights are {mib(weights)}, and the GPU has {mib(room)} free; {way}"


def mib(size: int) -> str:
    """Bytes for people."""
    return f"{size / MIB:,.0f} MiB"


def _passing(sizes: DecoderConfig, form: Form, capacity: int, item: int) -> int:
    """The most that lives at once within a layer: its attention's, or its feed-forward's, beside the rows."""
    width, kv_width = sizes.hidden_size, sizes.num_key_value_heads * sizes.head_dim
    entering, going = form.batch * form.entering, form.batch * form.going
    looks = going * (capacity + ALIGNED)
    seen = 2 * form.batch * (capacity + 1) * (kv_width + (width if kv_width < width else 0))
    attention = entering * (width + 4 * kv_width) + going * 4 * width + seen
    feed_forward = going * (2 * width + 4 * sizes.intermediate_size)
    return item * (going * width + 2 * looks + max(attention, feed_forward))
