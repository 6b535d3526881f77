"""EagerAttention: the attention of an eager pass: each sequence writes its cache and attends to it, by its own plan.

Knows sequences and their caches; no layer's weights.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from stillframe.models.llama.attention import attend
from stillframe.models.llama.decoder import LlamaModel
from stillframe.models.llama.history_attention import Recall, recalled
from stillframe.models.llama.sequence import Strand

BLOCK_ROWS = 72  # of a prompt, that look at keys together: fewer keys for the first ones, few enough products


class _SequenceState:
    """One strand on its way through the layers."""

    def __init__(self, model: LlamaModel, strand: Strand):
        self.on: Tensor | None = None  # which of the rows that enter the layer at hand go on; None: all
        self.rows = self.going = len(strand.rows)  # that enter it; that go on
        self.positions = model.positions(strand.first, strand.stop, strand.rows.device)
        self.tap = strand.tap
        self._strand = strand
        self._at = self.positions  # of the rows that enter
        lone = len(strand.rows) == 1 and strand.stop == strand.kv.length
        self._looks = None if lone else model.causal(strand.first, strand.stop, strand.kv.length, strand.rows)
        self._reach = _reach(self._at, strand.kv.length)
        self._last = model.config.num_hidden_layers - 1

    def enter(self, layer: int) -> None:
        """The rows that went on come to the next layer, and some of them will not leave it."""
        if self.on is not None:
            self._at, self.rows = self._at[self.on], self.going
        self.on = self._strand.kept.get(layer)
        if layer == self._last and self._strand.read is not None and self._strand.read < self.rows:
            self.on = torch.arange(self.rows - self._strand.read, self.rows, device=self._at.device)
        if self.on is not None:
            self.going = len(self.on)
            self._looks = None if self._looks is None else self._looks[self.on]
            self._reach = _reach(self._at[self.on], self._strand.kv.length)

    def mix(self, layer: int, queries: Tensor, keys: Tensor, values: Tensor) -> Tensor:
        """Write, then look."""
        keys, values = self._strand.kv.write(layer, self._at, keys, values)
        history = self._strand.history
        looking = 0 if history is None else self._looking(history)
        if history is None or not looking:
            return attend(queries, keys, values, self._looks, self._reach)
        looks = self._looks if self._looks is not None else queries.new_zeros(1, keys.shape[1])
        back = recalled(history, layer, queries[:, -looking:], keys, values, looks[-looking:])
        if looking == queries.shape[1]:
            return back
        ahead = _up_to(self._reach, queries.shape[1] - looking)
        return torch.cat((attend(queries[:, :-looking], keys, values, looks[:-looking], ahead), back), dim=1)

    def _looking(self, history: Recall) -> int:
        """How many of the rows that go on look at older frames: the last ones, for none of those ever drops out."""
        return min(self.going, max(0, self._strand.stop - max(history.first, self._strand.first)))


class EagerAttention:
    """Walks side by side: the Places of all strands' rows, which lie one strand behind the other."""

    def __init__(self, model: LlamaModel, strands: Sequence[Strand]):
        self._walks = walks = [_SequenceState(model, strand) for strand in strands]
        self._taps = [walk for walk in walks if walk.tap is not None]
        self.positions = walks[0].positions if len(walks) == 1 else torch.cat([walk.positions for walk in walks])

    @property
    def going(self) -> list[int]:
        """How many rows of each strand have come out of the last layer that was run."""
        return [walk.going for walk in self._walks]

    def going_on(self, layer: int) -> Tensor | None:
        """Of all strands, where any has a row that does not."""
        for walk in self._walks:
            walk.enter(layer)
        if all(walk.on is None for walk in self._walks):
            return None
        return self._walks[0].on if len(self._walks) == 1 else torch.cat([*self._ons()])

    def mix(self, layer: int, queries: Tensor, keys: Tensor, values: Tensor) -> Tensor:
        """Each strand by itself."""
        if len(self._walks) == 1:
            return self._walks[0].mix(layer, queries, keys, values)
        entering, going = [walk.rows for walk in self._walks], [walk.going for walk in self._walks]
        parts = (torch.split(queries, going, 1), torch.split(keys, entering, 1), torch.split(values, entering, 1))
        return torch.cat([walk.mix(layer, *own) for walk, *own in zip(self._walks, *parts, strict=True)], dim=1)

    def saw(self, layers: int, rows: Tensor) -> None:
        """Show each strand's tap its own rows."""
        if not self._taps:
            return
        for walk, own in zip(self._walks, torch.split(rows, [walk.going for walk in self._walks]), strict=True):
            if walk.tap is not None:
                walk.tap(layers, own)

    def _ons(self) -> Iterator[Tensor]:
        """Each strand's indices, counted among all rows."""
        first = 0
        for walk in self._walks:
            on = torch.arange(walk.rows, device=walk.positions.device) if walk.on is None else walk.on
            yield on + first
            first += walk.rows


def _reach(at: Tensor, keys: int) -> list[tuple[int, int]]:
    """How far blocks of causal rows at positions `at` look; none on a GPU, which would have to be waited for."""
    blocks = len(at) // BLOCK_ROWS
    if blocks < 2 or at.device.type != "cpu":
        return []
    stops = [len(at) * block // blocks for block in range(1, blocks)]
    return [*zip(stops, (at[[stop - 1 for stop in stops]] + 1).tolist(), strict=True), (len(at), keys)]


def _up_to(reach: Sequence[tuple[int, int]], rows: int) -> list[tuple[int, int]]:
    """The same of the first `rows` alone."""
    whole = [(stop, seen) for stop, seen in reach if stop < rows]
    return [*whole, (rows, reach[len(whole)][1])] if reach else []
