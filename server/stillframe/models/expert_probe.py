"""ExpertAttentionProbe: keeps what an action expert asks of a prefix, to work out afterwards what it attended to.

Knows queries, keys and a layout; no family. Costs a copy of a chunk's rows in a layer, and nothing of the attention
itself.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from stillframe.models.llama.layout import TokenLayout
from stillframe.reuse.kv import FrameKV
from stillframe.reuse.relevance import Relevance, attention_to_patches

ExpertHook = Callable[[int, Tensor, Tensor], None]  # called in a layer with one robot's queries [heads, actions,
# head_dim], and with the expert's own keys [kv_heads, rows, head_dim] behind those of the prefix


class ExpertAttentionProbe:
    """Of one robot, for one step from noise to its chunk: the rows of actions that attend, layer by layer, to a prefix.

    The expert has as many layers as the decoder whose keys it attends to.
    """

    on_prompt = None  # see base.RelevanceProbe

    def __init__(self, layout: TokenLayout, chosen: Sequence[int], *, of: int, every_layer: bool):
        """Probe the `chosen` layers `of` so many (none: the middle one); `every_layer`: all for the entropies."""
        self._layout = layout
        self._chosen = chosen or (of // 2,)
        self._layers = range(of) if every_layer else self._chosen
        self._kept: dict[int, tuple[Tensor, Tensor]] = {}

    @property
    def on_expert(self) -> ExpertAttentionProbe:
        """Itself: see base.RelevanceProbe."""
        return self

    def __call__(self, layer: int, queries: Tensor, own_keys: Tensor) -> None:
        """Keep what a layer asks, if it is one of those that are probed: see ExpertHook."""
        if layer in self._layers:
            self._kept[layer] = (queries.detach().clone(), own_keys.detach().clone())

    def relevance(self, kv: FrameKV) -> Relevance:
        """What the actions attended to in `kv`, the prefix over which they were drawn."""
        rows, patches = self._layout.prompt_rows, self._layout.patch_positions
        looks = {
            layer: attention_to_patches(queries, torch.cat((kv.keys(layer, rows), own_keys), dim=1), None, patches)
            for layer, (queries, own_keys) in sorted(self._kept.items())
        }
        return Relevance.of(looks, self._chosen)
