"""DraftActor: plays by exact drafts, and decodes each frame a second time by strict ones, over the same prefill.

Knows the engine's runner and speculative decoding; neither the simulator nor what is made of the comparisons.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from stillframe.engine.settings import DecodingSettings
from stillframe.models.base import Decoded, PolicyModel, Prefilled
from stillframe.models.llama.decoder import Decoder
from stillframe.models.llama.draft import Ids
from stillframe.models.llama.runner import DecoderRunner
from stillframe.models.llama.speculative import speculative_decode
from stillframe.models.runner import ModelRunner
from stillframe.reuse.settings import ReuseSettings
from stillframe.tools.certify.near_ties import plain_rows
from stillframe_lab.evaluation.actors import Action, LocalActor


@dataclass(frozen=True)
class ComparedFrame:
    """One frame decoded both ways. Logits are those of a pass without guesses, as strict has them."""

    exact_passes: int  # the prefill among them
    strict_passes: int
    right: bool  # whether every guess was
    bit_equal: bool  # whether exact called its tokens equal to the bit
    bins: int  # between the tokens that are furthest apart; 0: they are the same
    behind: float | None  # logits between the likeliest and exact's token, the first that is another; None: none is
    rounding: float | None  # the same, in units of eps |hidden row| |head's longest row|
    leads: tuple[float, ...]  # of each token behind the first: logits between the two likeliest
    moved: tuple[float, ...]  # of each of these that the prefill verified: how far it moved one logit from another


Watch = Callable[[ComparedFrame], None]


@dataclass(frozen=True)
class ComparingRunner(ModelRunner):
    """A runner whose every answer, of one frame, is decoded by strict drafts as well and handed to `watch`."""

    watch: Watch = lambda _: None

    def act(self, prefilled: Sequence[Prefilled]) -> list[Decoded]:
        """See PolicyModel."""
        decoded = super().act(prefilled)
        for frame, own in zip(prefilled, decoded, strict=True):
            self.watch(compared(self.decoder, frame, own))
        return decoded


class DraftActor(LocalActor):
    """A model in this process that answers by exact drafts. Nothing is refreshed or measured in the pauses."""

    def __init__(self, model: PolicyModel, reuse: ReuseSettings):
        super().__init__(model, reuse, decoding=DecodingSettings("exact"))
        self.compared: list[ComparedFrame] = []
        core = self.policy.batch.core
        graphs = core.runner
        core.runner = ComparingRunner(
            model, graphs.decoder, graphs.encode_images, graphs.counts, watch=self.compared.append
        )

    def __call__(self, observed: Mapping[str, Any]) -> Action:
        """The action due now; the comparisons are those of the trace's frames."""
        action = super().__call__(observed)
        self.compared[:] = self.compared[-len(self.trace.frames) :]
        return action

    def rest(self, executed: int | None = None) -> None:
        """Nothing."""


def compared(runner: DecoderRunner, frame: Prefilled, decoded: Decoded) -> ComparedFrame:
    """Decode the frame by strict drafts, and ask a pass without guesses for exact's tokens."""
    (strict,) = speculative_decode(runner, [replace(frame, draft=replace(frame.draft, mode="strict", faults=[]))])
    ids = decoded.chunk.tokens
    logits, units = _plain_logits(runner, frame, ids)
    best = logits.topk(2).values
    behind = best[:, 0] - logits[torch.arange(len(logits)), torch.from_numpy(ids[1:])]
    first = next(iter(np.flatnonzero(logits.argmax(dim=-1).numpy() != ids[1:])), None)
    return ComparedFrame(
        exact_passes=1 + decoded.passes,
        strict_passes=1 + strict.passes,
        right=bool((frame.draft.ids == ids).all()),
        bit_equal=decoded.bit_equal,
        bins=int(np.abs(ids - strict.ids).max()),
        behind=None if first is None else float(behind[first]),
        rounding=None if first is None else float(behind[first] / units[first]),
        leads=tuple((best[:, 0] - best[:, 1]).tolist()),
        moved=_moved(runner.decoder, frame, ids, logits),
    )


def _moved(decoder: Decoder, frame: Prefilled, ids: Ids, plain: Tensor) -> tuple[float, ...]:
    """From the prefill's logits to `plain`, for the tokens behind the first whose guesses before them were right."""
    right = int(np.cumprod(frame.draft.ids[:-1] == ids[:-1]).sum())
    prefill = decoder.logits(frame.hidden[-len(ids) :])  # as many rows as were asked for when it was verified
    apart = prefill[1 : 1 + right].float().cpu() - plain[:right]
    return tuple((apart.amax(dim=-1) - apart.amin(dim=-1)).tolist())


def _plain_logits(runner: DecoderRunner, frame: Prefilled, ids: Ids) -> tuple[Tensor, Tensor]:
    """For all tokens but the first, in a later pass's shape: logits [tokens - 1, vocabulary], each row's rounding."""
    decoder, hidden = runner.decoder, plain_rows(runner, frame, ids)
    units = torch.finfo(hidden.dtype).eps * decoder.max_head_norm * hidden.double().norm(dim=-1)
    return decoder.logits(hidden).float().cpu(), units.cpu()
