"""TextAttentionProbe: a layer hook that keeps the text's rows, to work out afterwards what they attended to.

Knows a decoder and a layout; costs a copy of a few rows a layer, and nothing of the attention itself.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from stillframe.models.llama.decoder import Decoder
from stillframe.models.llama.layout import TokenLayout
from stillframe.reuse.kv import FrameKV
from stillframe.reuse.relevance import Relevance, look


class TextAttentionProbe:
    """A PromptHook for one pass. Text rows are never dropped, so they are found by their distance from the end."""

    def __init__(self, decoder: Decoder, layout: TokenLayout, chosen: Sequence[int], *, every_layer: bool):
        """Probe the `chosen` layers (none: all); `every_layer`: all of them for the entropies, chosen or not."""
        every = range(decoder.config.num_hidden_layers)
        self._decoder = decoder
        self._layout = layout
        self._chosen = chosen
        self._layers = every if every_layer or not chosen else sorted(set(chosen))
        self._rows: dict[int, Tensor] = {}

    def __call__(self, layer: int, rows: Tensor) -> None:
        """Keep the text's rows [text, width] that enter `layer`."""
        if layer in self._layers:
            text, end = self._layout.text, self._layout.prompt_rows
            self._rows[layer] = rows[len(rows) - (end - text.start) : len(rows) - (end - text.stop)].clone()

    @property
    def text_rows(self) -> int:
        """See PromptHook."""
        return self._layout.prompt_rows - self._layout.text.start

    def relevance(self, kv: FrameKV) -> Relevance:
        """What the text attended to in the pass that has just written `kv`."""
        text, patches = self._layout.text, self._layout.patch_positions
        positions = torch.arange(text.start, text.stop, device=kv.device)
        looks = {
            layer: look(
                self._decoder.model.queries(layer, rows, positions), kv.keys(layer, text.stop), positions, patches
            )
            for layer, rows in self._rows.items()
        }
        return Relevance.of(looks, self._chosen)
