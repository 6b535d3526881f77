"""TextAttentionProbe: a layer hook that keeps the rows that look, to work out afterwards what they attended to.

Knows a decoder and a layout; costs a copy of a few rows a layer, and nothing of the attention itself.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from stillframe.models.llama.decoder import Decoder
from stillframe.models.llama.layout import Mask, TokenLayout
from stillframe.reuse.kv import FrameKV
from stillframe.reuse.relevance import Relevance, attention_to_patches


class TextAttentionProbe:
    """A PromptHook for one pass. The text's and the action's rows are never dropped: they are found from the end on."""

    on_expert = None  # see base.RelevanceProbe

    def __init__(self, decoder: Decoder, layout: TokenLayout, chosen: Sequence[int], *, every_layer: bool):
        """Probe the `chosen` layers (none: all); `every_layer`: all of them for the entropies, chosen or not."""
        every = range(decoder.config.num_hidden_layers)
        self._decoder = decoder
        self._layout = layout
        self._chosen = chosen
        self._layers = every if every_layer or not chosen else sorted(set(chosen))
        self._rows: dict[int, Tensor] = {}

    def __call__(self, layer: int, rows: Tensor) -> None:
        """Keep the rows [looking, width] that look, as they enter `layer`."""
        if layer in self._layers:
            looking, end = self._layout.looking, self._layout.prompt_rows
            self._rows[layer] = rows[len(rows) - (end - looking.start) : len(rows) - (end - looking.stop)].clone()

    @property
    def on_prompt(self) -> TextAttentionProbe:
        """Itself: see base.RelevanceProbe."""
        return self

    @property
    def text_rows(self) -> int:
        """See PromptHook."""
        return self._layout.prompt_rows - self._layout.looking.start

    def relevance(self, kv: FrameKV) -> Relevance:
        """What the text attended to in the pass that has just written `kv`."""
        looking, patches = self._layout.looking, self._layout.patch_positions
        causal = self._layout.mask is Mask.CAUSAL
        keys = looking.stop if causal else self._layout.prompt_rows
        positions = torch.arange(looking.start, looking.stop, device=kv.device)
        looks = {
            layer: attention_to_patches(
                self._decoder.model.queries(layer, rows, positions),
                kv.keys(layer, keys),
                positions if causal else None,
                patches,
            )
            for layer, rows in self._rows.items()
        }
        return Relevance.of(looks, self._chosen)
