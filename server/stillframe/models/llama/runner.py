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
from stillframe.models.llama.sequence import PromptTap, Strand, prompt
from stillframe.reuse.kv import FrameKV
from stillframe.reuse.plan import ReusePlan


class PassGraphs(Protocol):
    """Passes that were captured: models/graphs/graph_runner.py on a GPU."""

    def replay(self, strands: Sequence[Strand]) -> list[Tensor] | None:
        """What an eager pass gives, up to rounding; None where the pass was not captured."""
        ...


@dataclass(frozen=True)
class DecoderRunner:
    """One decoder. With `graphs`, whatever pass they hold is replayed; every other is run eagerly."""

    decoder: Decoder
    graphs: PassGraphs | None = None

    def forward(self, strands: Sequence[Strand]) -> list[Tensor]:
        """One pass over all strands, each in a cache of its own -> of each the hidden rows that are read, normed.

        Everything but attention runs over all strands' rows together. Of the last layer only what is read goes through:
        the other rows' outputs would feed nothing.
        """
        for strand in strands:
            strand.kv.reserve(strand.stop)
        replayed = None if self.graphs is None else self.graphs.replay(strands)
        return self._eager(strands) if replayed is None else replayed

    def prefill(
        self, rows: Tensor, plan: ReusePlan, kv: FrameKV, tap: PromptTap | None = None, guesses: Tensor | None = None
    ) -> Tensor:
        """Run one prompt by `plan`: see `sequence.prompt`.

        Returns the hidden rows of all that got to the last layer, in order of position.
        """
        return self.forward([prompt(self.decoder, rows, plan, kv, tap, guesses)])[0]

    def _eager(self, strands: Sequence[Strand]) -> list[Tensor]:
        model = self.decoder.model
        places = EagerAttention(model, strands)
        rows = strands[0].rows if len(strands) == 1 else torch.cat([strand.rows for strand in strands])
        hidden: Tensor = model(rows, places)
        return [*torch.split(hidden, places.going)]
