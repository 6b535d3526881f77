"""AttentionBackend: what decoder layers ask of one pass; and the backend of training, which caches nothing.

Knows rows, positions and masks; no weights, no cache.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from torch import Tensor

from stillframe.models.llama.attention import attend

LayerHook = Callable[
    [int, Tensor], None
]  # called with (layers done, hidden rows) before the first layer and after each
# Called behind each layer with its number and its rows, and with -1 before the first; returns the rows that go on, and
# where they stood (None: all).
RowPruner = Callable[[int, Tensor], tuple[Tensor, Tensor | None]]


class AttentionBackend(Protocol):
    """One pass's positions, the rows that survive each layer, and attention, a cache included where there is one."""

    @property
    def positions(self) -> Tensor:
        """Absolute position of each row that enters the first layer, [rows]."""
        ...

    def surviving_rows(self, layer: int) -> Tensor | None:
        """Indices, among the rows that enter `layer`, of those that survive it; None: all. Once a layer, in order."""
        ...

    def attend(self, layer: int, queries: Tensor, keys: Tensor, values: Tensor) -> Tensor:
        """Attention of the surviving rows: [..., heads, rows, head_dim], in the queries' shape.

        Keys and values are those of all rows that enter the layer.
        """
        ...

    def on_layer(self, layers: int, rows: Tensor) -> None:
        """Called with the rows [rows, width] that have passed through so many layers: for layer hooks."""
        ...


@dataclass(frozen=True)
class MaskedAttention:
    """All rows attend to each other by a mask; no row is dropped, nothing is cached. For training."""

    positions: Tensor  # [rows]
    mask: Tensor | None  # [rows, rows], True where a row attends; None: everywhere
    hook: LayerHook | None = None

    def surviving_rows(self, layer: int) -> Tensor | None:  # noqa: ARG002 (the protocol's signature)
        """All."""
        return None

    def attend(self, layer: int, queries: Tensor, keys: Tensor, values: Tensor) -> Tensor:  # noqa: ARG002 (as above)
        """By the mask."""
        return attend(queries, keys, values, self.mask)

    def on_layer(self, layers: int, rows: Tensor) -> None:
        """Call the hook."""
        if self.hook is not None:
            self.hook(layers, rows)
