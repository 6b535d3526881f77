"""DecoderRunner: runs a decoder over rows that lie in caches, of one or several sequences, eagerly or by CUDA graphs.

Knows decoders and sequences; not what the rows mean, and not how graphs are captured.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from stillframe.models.llama.decoder import Decoder
from stillframe.models.llama.eager_attention import EagerAttention
from stillframe.models.llama.sequence import PromptHook, SequenceSlice, prompt_slice
from stillframe.reuse.kv import FrameKV
from stillframe.reuse.plan import ReusePlan


class PassGraphs(Protocol):
    """Passes that were captured: models/graphs/graph_runner.py on a GPU."""

    def replay(self, sequences: Sequence[SequenceSlice]) -> list[Tensor] | None:
        """The results of an eager pass, up to rounding; None where the pass was not captured."""
        ...


class ChunkGraphs(Protocol):
    """Chunks drawn over prefixes in passes that were captured: models/graphs/chunk_graphs.py on a GPU."""

    def replay(
        self, caches: Sequence[FrameKV], lengths: Sequence[int], states: Tensor | None, noise: Tensor, *, plain: bool
    ) -> Tensor | None:
        """The chunks [robots, horizon, numbers] that begin as `noise`, over each one's prefix of so many rows.

        None where they were not captured. `plain`: they go on with no older ones, and nothing looks on.
        """
        ...


@dataclass(frozen=True)
class DecoderRunner:
    """One decoder. With `graphs`, a pass that was captured is replayed; every other is run eagerly.

    `chunks`: likewise for a family that draws chunks over what the decoder leaves in the caches.
    """

    decoder: Decoder
    graphs: PassGraphs | None = None
    chunks: ChunkGraphs | None = None

    def forward(self, sequences: Sequence[SequenceSlice]) -> list[Tensor]:
        """One pass over all sequences, each in a cache of its own -> each one's output rows, normed hidden states.

        Everything but attention runs over all sequences' rows together. Through the last layer only output rows go: the
        others would feed nothing.
        """
        for sequence in sequences:
            sequence.kv.reserve(sequence.stop)
        replayed = None if self.graphs is None else self.graphs.replay(sequences)
        return self._eager(sequences) if replayed is None else replayed

    def prefill(
        self,
        rows: Tensor,
        plan: ReusePlan,
        kv: FrameKV,
        hook: PromptHook | None = None,
        draft_ids: Tensor | None = None,
    ) -> Tensor:
        """Run one prompt by `plan`: see `sequence.prompt_slice`.

        Returns the hidden rows of all that survived the last layer, in order of position.
        """
        return self.forward([prompt_slice(self.decoder, rows, plan, kv, hook, draft_ids)])[0]

    def _eager(self, sequences: Sequence[SequenceSlice]) -> list[Tensor]:
        model = self.decoder.model
        attention = EagerAttention(model, sequences)
        rows = sequences[0].rows if len(sequences) == 1 else torch.cat([sequence.rows for sequence in sequences])
        hidden: Tensor = model(rows, attention, attention.prune if attention.prunes else None)
        return [*torch.split(hidden, attention.surviving)]
