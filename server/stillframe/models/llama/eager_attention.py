"""EagerAttention: the attention of an eager pass: each sequence writes its cache and attends to it, by its own plan.

Knows sequences and their caches; no layer's weights.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate

import torch
from torch import Tensor

from stillframe.models.llama.attention import attend
from stillframe.models.llama.decoder import LlamaModel
from stillframe.models.llama.history_attention import HistoryKV, attend_with_history
from stillframe.models.llama.layout import Mask
from stillframe.models.llama.sequence import SequenceSlice

BLOCK_ROWS = 72  # of a prompt, that attend together: fewer keys for the first blocks, few enough products


class _SequenceState:
    """One sequence between two layers: which rows enter, which of them survive, and their mask."""

    def __init__(self, model: LlamaModel, sequence: SequenceSlice):
        self.keep: Tensor | None = None  # which of the rows that enter this layer survive it; None: all
        self.rows = self.surviving = len(sequence.rows)  # that enter it; that survive it
        self.positions = model.positions(sequence.first, sequence.stop, sequence.rows.device)
        self.hook = sequence.hook
        self._sequence = sequence
        self._positions = self.positions  # of the rows that enter
        keys, causal = sequence.kv.length, sequence.mask is Mask.CAUSAL
        lone = len(sequence.rows) == 1 and sequence.stop == sequence.kv.length
        masked = causal and not lone
        self._mask = model.causal(sequence.first, sequence.stop, keys, sequence.rows) if masked else None
        self._visible: Tensor | None = None  # the keys' positions, where some are pruned; None: all
        self._reach = self._reached(self._positions)
        self._last = model.config.num_hidden_layers - 1

    def enter(self, layer: int) -> None:
        """The surviving rows enter the next layer, and some of them may not survive it."""
        if self.keep is not None:
            self._positions, self.rows = self._positions[self.keep], self.surviving
        self.keep = self._sequence.kept.get(layer)
        if layer == self._last and self._sequence.read is not None and self._sequence.read < self.rows:
            self.keep = torch.arange(self.rows - self._sequence.read, self.rows, device=self._positions.device)
        self._visible = self._sequence.kv.visible(layer)
        if self.keep is not None:
            self.surviving = len(self.keep)
            self._mask = None if self._mask is None else self._mask[self.keep]
        if self.keep is not None or self._visible is not None:
            surviving = self._positions if self.keep is None else self._positions[self.keep]
            self._reach = self._reached(surviving)

    def attend(self, layer: int, queries: Tensor, keys: Tensor, values: Tensor) -> Tensor:
        """Write keys and values to the cache, then attend to it."""
        keys, values = self._sequence.kv.write(layer, self._positions, keys, values)
        if self._sequence.pruning is not None and layer < self._last:  # no layer is deeper than the last
            self._sequence.pruning.look(layer, queries, keys)
        mask = self._mask if self._mask is None or self._visible is None else self._mask[:, self._visible]
        weights = self._sequence.kv.weights(layer)
        if weights is not None:
            mask = weights.to(queries.dtype)[None] if mask is None else mask + weights.to(mask.dtype)
        history = self._sequence.history
        rows = 0 if history is None else self._rows_with_history(history)
        if history is None or not rows:
            return attend(queries, keys, values, mask, self._reach)
        mask = mask if mask is not None else queries.new_zeros(1, keys.shape[1])
        last = attend_with_history(history, layer, queries[:, -rows:], keys, values, mask[-rows:])
        if rows == queries.shape[1]:
            return last
        reach = _up_to(self._reach, queries.shape[1] - rows)
        return torch.cat((attend(queries[:, :-rows], keys, values, mask[:-rows], reach), last), dim=1)

    def prune(self, layer: int, rows: Tensor) -> tuple[Tensor, Tensor | None]:
        """Behind a layer, or before the first: its rows that go on, and where they stood among them; None: all."""
        pruning = self._sequence.pruning
        pruned = None if pruning is None or layer == self._last else pruning.prune(layer, rows)
        if pruning is None or pruned is None:
            return rows, None
        rows, places = pruned
        self._positions, self.rows, self.surviving = self._positions[places], len(places), len(places)
        self._mask = None if self._mask is None else self._mask[places]
        self._sequence.kv.prune(layer + 1, self._positions, pruning.weights)
        return rows, places

    def _reached(self, positions: Tensor) -> list[tuple[int, int]]:
        """See `_reach`; keys count among those that are visible."""
        if self._sequence.mask is not Mask.CAUSAL:
            return []
        if self._visible is None:
            return _reach(positions, self._sequence.kv.length)
        return _reach(torch.searchsorted(self._visible, positions), len(self._visible))

    def _rows_with_history(self, history: HistoryKV) -> int:
        """How many surviving rows attend to older frames: the last ones, none of which is ever dropped."""
        return min(self.surviving, max(0, self._sequence.stop - max(history.first, self._sequence.first)))


class EagerAttention:
    """The `AttentionBackend` of an eager pass, whose rows lie one sequence behind the other."""

    def __init__(self, model: LlamaModel, sequences: Sequence[SequenceSlice]):
        self._states = states = [_SequenceState(model, sequence) for sequence in sequences]
        self._hooked = [state for state in states if state.hook is not None]
        self.prunes = any(sequence.pruning is not None for sequence in sequences)
        self.positions = states[0].positions if len(states) == 1 else torch.cat([state.positions for state in states])

    @property
    def surviving(self) -> list[int]:
        """How many rows of each sequence survived the last layer that was run."""
        return [state.surviving for state in self._states]

    def surviving_rows(self, layer: int) -> Tensor | None:
        """Those of all sequences; None where every row survives."""
        for state in self._states:
            state.enter(layer)
        return _joined([state.keep for state in self._states], [state.rows for state in self._states], self.positions)

    def attend(self, layer: int, queries: Tensor, keys: Tensor, values: Tensor) -> Tensor:
        """Each sequence by itself."""
        if len(self._states) == 1:
            return self._states[0].attend(layer, queries, keys, values)
        entering, surviving = [state.rows for state in self._states], [state.surviving for state in self._states]
        parts = (torch.split(queries, surviving, 1), torch.split(keys, entering, 1), torch.split(values, entering, 1))
        return torch.cat([state.attend(layer, *own) for state, *own in zip(self._states, *parts, strict=True)], dim=1)

    def on_layer(self, layers: int, rows: Tensor) -> None:
        """Call each sequence's hook with its own rows."""
        if not self._hooked:
            return
        surviving = [state.surviving for state in self._states]
        for state, own in zip(self._states, torch.split(rows, surviving), strict=True):
            if state.hook is not None:
                state.hook(layers, own)

    def prune(self, layer: int, rows: Tensor) -> tuple[Tensor, Tensor | None]:
        """A `RowPruner`: each sequence by itself."""
        before = self.surviving
        parts = [state.prune(layer, own) for state, own in zip(self._states, torch.split(rows, before), strict=True)]
        places = _joined([own for _, own in parts], before, self.positions)
        return rows if places is None else torch.cat([own for own, _ in parts]), places


def _joined(chosen: Sequence[Tensor | None], counts: Sequence[int], like: Tensor) -> Tensor | None:
    """Indices of each sequence's rows, of which there are so many, counted among all rows; None: all of all."""
    if all(own is None for own in chosen):
        return None
    if len(chosen) == 1:
        return chosen[0]
    every, firsts = torch.arange(sum(counts), device=like.device), accumulate(counts[:-1], initial=0)
    parts = zip(chosen, firsts, counts, strict=True)
    return torch.cat([every[at : at + rows] if own is None else own + at for own, at, rows in parts])


def _reach(positions: Tensor, keys: int) -> list[tuple[int, int]]:
    """Up to which key each block of causal rows attends; empty on a GPU, which would have to be waited for."""
    blocks = len(positions) // BLOCK_ROWS
    if blocks < 2 or positions.device.type != "cpu":
        return []
    stops = [len(positions) * block // blocks for block in range(1, blocks)]
    return [*zip(stops, (positions[[stop - 1 for stop in stops]] + 1).tolist(), strict=True), (len(positions), keys)]


def _up_to(reach: Sequence[tuple[int, int]], rows: int) -> list[tuple[int, int]]:
    """The same of the first `rows` alone."""
    whole = [(stop, seen) for stop, seen in reach if stop < rows]
    return [*whole, (rows, reach[len(whole)][1])] if reach else []
