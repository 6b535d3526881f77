"""PromptPruning: takes patch rows out of a prompt between two layers of its prefill, as a pruning method decides.

Knows the queries, keys and rows of one pass; not by what rule rows are chosen.

A row that is pruned is neither computed nor seen in the layers behind: a reused row, which is not computed either,
stays visible with its older keys and values. All others keep their positions. A row that others were merged into stands
for all of them in attention where its method says so.
"""

from __future__ import annotations

import torch
from torch import Tensor

from stillframe.models.llama.layout import Mask, TokenLayout
from stillframe.reuse.pruning import Method, Pruned, ToMe
from stillframe.reuse.relevance import attention_to_patches


class PromptPruning:
    """For one pass over one prompt, all of whose rows enter, and a draft's behind them, which are never pruned.

    So a row's index is that of its keys among those that are seen, in every layer. Nor are rows of the state, of the
    text or of the action's places among the prompt's ever pruned.
    """

    def __init__(self, method: Method, layout: TokenLayout):
        self._method = method
        self._layout = layout
        self._patches = layout.patch_positions  # later: the indices of those that are left
        self._behind = range(layout.text.start, layout.prompt_rows)
        self._looking = torch.empty(0)
        self._attention: Tensor | None = None
        self._sizes = torch.empty(0)  # of each patch row that is left, once some were merged: for how many it stands

    def begin(self, rows: Tensor) -> None:
        """Decide which rows look, of the embedded ones [prompt rows, width]."""
        patches, text = (rows[places.start : places.stop] for places in (self._patches, self._layout.text))
        self._sizes = torch.ones(len(patches), dtype=torch.float64, device=rows.device)
        if not isinstance(self._method, ToMe):
            chosen, says = self._method.looking(patches, text), self._layout.saying
            every = torch.arange(says.start, says.stop, device=rows.device) - self._behind.start
            self._looking = every if chosen is None else chosen

    def look(self, layer: int, queries: Tensor, keys: Tensor) -> None:
        """Note what is attended to in a layer that decides, from all rows' queries and keys."""
        if layer in self._method.layers and not isinstance(self._method, ToMe):
            at = self._looking + self._behind.start
            positions = at if self._layout.mask is Mask.CAUSAL else None
            self._attention = attention_to_patches(queries[:, at], keys, positions, self._patches)

    def prune(self, layer: int, rows: Tensor) -> tuple[Tensor, Tensor] | None:
        """Behind a layer: the rows [n, width] that go on, and their places [n] as indices; None: all as they are.

        Behind layer -1, which is before the first, as well; never behind the last.
        """
        start, stop = self._patches.start, self._patches.stop
        pruned = self._decide(layer, rows[start:stop])
        if pruned is None:
            return None
        if pruned.sizes is not None:
            self._sizes = pruned.sizes
        every = torch.arange(len(rows), device=rows.device)
        gone = stop - start - len(pruned.kept)
        self._patches = range(start, stop - gone)
        self._behind = range(self._behind.start - gone, self._behind.stop - gone)
        places = torch.cat((every[:start], pruned.kept + start, every[stop:]))
        return torch.cat((rows[:start], pruned.rows, rows[stop:])), places

    @property
    def weights(self) -> Tensor | None:
        """What is added to scores of attention to each of the prompt's rows that is left [n]; None: nothing.

        ToMe's proportional attention: the logarithm of how many tokens a row stands for.
        """
        if not isinstance(self._method, ToMe):
            return None
        rows = self._sizes.new_ones(self._behind.stop)
        rows[self._patches.start : self._patches.stop] = self._sizes
        return rows.log()

    def _decide(self, layer: int, patches: Tensor) -> Pruned | None:
        """What becomes of the patch rows [n, width] that are left."""
        if isinstance(self._method, ToMe):
            return self._method.merge(patches, self._sizes) if layer + 1 in self._method.layers else None
        attention, self._attention = self._attention, None
        return None if attention is None else self._method.prune(attention, patches)
