"""Near ties: how far the plain answer's token led the one that another arm chose, and what rounding can move a lead by.

Knows a decoder, and a frame after its prefill; not which arm chose otherwise.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from stillframe.models.base import Decoded, Prefilled
from stillframe.models.llama.draft import Ids
from stillframe.models.llama.runner import DecoderRunner
from stillframe.models.llama.sequence import SequenceSlice
from stillframe.models.llama.speculative import ROUNDING_MARGIN
from stillframe.models.runner import ModelRunner


@dataclass(frozen=True)
class NearTie:
    """The first token that another arm chose otherwise: those behind it follow from it."""

    token: int  # its place in the action
    lead: float  # logits of the plain token over the other
    reach: float  # logits that passes of other shapes may move a lead by; see speculative.ROUNDING_MARGIN

    @property
    def explains(self) -> bool:
        """Whether rounding can have turned the choice."""
        return self.lead <= self.reach


@dataclass(frozen=True)
class WatchedRunner(ModelRunner):
    """An eager runner that keeps the last frame that it answered, after its prefill."""

    last: list[Prefilled] = field(default_factory=list)

    @classmethod
    def of(cls, runner: ModelRunner) -> WatchedRunner:
        """The same, watched."""
        return cls(runner.model, runner.decoder, runner.encode_images, runner.counts)

    def act(self, prefilled: Sequence[Prefilled]) -> list[Decoded]:
        """See PolicyModel."""
        self.last[:] = prefilled
        return super().act(prefilled)


@torch.inference_mode()
def near_tie(runner: WatchedRunner, plain: Ids, other: Ids) -> NearTie:
    """Of two answers [tokens] that differ, the first the runner's own to its last frame, with nothing run since."""
    token = int(np.flatnonzero(plain != other)[0])
    row, decoder = _row(runner.decoder, runner.last[0], plain, token), runner.decoder.decoder
    logits = decoder.logits(row[None])[0].float()
    unit = torch.finfo(row.dtype).eps * decoder.max_head_norm * row.float().norm()
    lead = logits[int(plain[token])] - logits[int(other[token])]
    return NearTie(token, float(lead), float(ROUNDING_MARGIN[row.dtype] * unit))


def _row(runner: DecoderRunner, frame: Prefilled, plain: Ids, token: int) -> Tensor:
    """The hidden row [width] whose logits say a token: the prefill's of the first, a later pass's of the others."""
    if token == 0:
        return frame.hidden[-len(plain)]
    return plain_rows(runner, frame, plain)[token - 1]


def plain_rows(runner: DecoderRunner, frame: Prefilled, ids: Ids) -> Tensor:
    """Hidden rows [tokens - 1, width] of all tokens but the last, in the shape of a pass without guesses."""
    rows = runner.decoder.embed(torch.from_numpy(ids[:-1]).to(frame.kv.device))
    start = frame.prepared.layout.action.start
    (hidden,) = runner.forward([SequenceSlice(rows, start, frame.kv, history=frame.history)])
    return hidden
