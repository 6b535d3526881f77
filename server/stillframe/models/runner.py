"""ModelRunner: how a deployment runs its model: eagerly, or with the CUDA graphs that were captured for its KV pool.

Knows the parts of a model that run on a device; no session, and not how graphs are captured.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

from stillframe.domain import PassCounts
from stillframe.models.base import Decoded, ImageEncoder, PolicyModel, Prefilled, Prepared
from stillframe.models.llama.runner import DecoderRunner


@dataclass(frozen=True)
class ModelRunner:
    """A model and what its passes go through. Several may share one model, each with graphs of its own."""

    model: PolicyModel
    decoder: DecoderRunner
    encode_images: ImageEncoder | None = None  # captured; None: the model's own
    counts: PassCounts | None = None  # of replayed and eager passes; None: there are no graphs

    @classmethod
    def eager(cls, model: PolicyModel) -> ModelRunner:
        """Without graphs."""
        return cls(model, DecoderRunner(model.decoder))

    def embed(self, prepared: Sequence[Prepared]) -> list[Tensor]:
        """See PolicyModel."""
        return self.model.embed(prepared, self.encode_images)

    def act(self, prefilled: Sequence[Prefilled]) -> list[Decoded]:
        """See PolicyModel."""
        return self.model.act(prefilled, self.decoder)
