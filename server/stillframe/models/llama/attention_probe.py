"""TextTap: keeps the text's rows as they enter each decoder layer, and tells afterwards where they looked.

Knows a decoder and a layout; costs a copy of a few rows a layer, and nothing of the attention itself.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from stillframe.models.llama.decoder import Decoder
from stillframe.models.llama.layout import TokenLayout
from stillframe.reuse.kv import FrameKV
from stillframe.reuse.relevance import Relevance, text_attention


class TextTap:
    """A `decoder.Tap` for one pass. Text rows never drop out, so they are found by their distance from the end."""

    def __init__(self, decoder: Decoder, layout: TokenLayout, chosen: Sequence[int], *, every_layer: bool):
        """Look at the `chosen` layers (none: all); `every_layer`: at all for the entropies, chosen or not."""
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
        """How many of a prompt's last rows it needs to see."""
        return self._layout.prompt_rows - self._layout.text.start

    def relevance(self, kv: FrameKV) -> Relevance:
        """Where the text looked in the pass that has just written `kv`."""
        text, patches = self._layout.text, self._layout.patch_positions
        positions = torch.arange(text.start, text.stop, device=kv.device)
        looks = {
            layer: text_attention(
                self._decoder.model.queries(layer, rows, positions), kv.keys(layer, text.stop), positions, patches
            )
            for layer, rows in self._rows.items()
        }
        return Relevance.of(looks, self._chosen)
