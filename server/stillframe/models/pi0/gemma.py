"""Gemma, as PaliGemma's text model, by the shared decoder: what it does otherwise than a Llama.

Knows sizes; no tensor. Its norms' weights are offsets from 1 in checkpoints: folder.py adds the 1.
"""

from __future__ import annotations

from dataclasses import dataclass

from stillframe.models.llama.decoder import Activation, DecoderConfig


@dataclass(frozen=True)
class GemmaConfig(DecoderConfig):
    """Sizes of a Gemma. The width of a head is its own; what it reads is not made into logits here."""

    head_width: int = 256

    @property
    def head_dim(self) -> int:
        """Width of one attention head."""
        return self.head_width

    @property
    def activation(self) -> Activation:
        """Of the feed-forward's gate: GeGLU, by the tanh formula."""
        return "gelu_tanh"

    @property
    def embedding_scale(self) -> float:
        """The root of the width; of text alone, for pictures do not come by `Decoder.embed`."""
        return float(self.hidden_size**0.5)
