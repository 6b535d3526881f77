"""Speculative decoding: an action's tokens are drafted before the pass, and every pass verifies all of them at once.

Knows a decoder runner, caches and token ids; not where a draft comes from, and not what a token means.

One pass over the draft yields the token after each draft token, and as many are known as draft tokens before them were
right: one at least. The next pass takes this one's tokens as its draft (Jacobi iteration, as in PD-VLA, arXiv
2503.02310). So each token is the likeliest of a pass in which all tokens before it are right: that is what lossless
means in the field, and mode exact. A right draft takes no pass but the prefill.

Passes of different shapes round differently, and where two tokens are as good as equal that decides. Mode strict gives
greedy tokens to the bit all the same, for its shapes are fixed: in the prefill the action's positions have rows of
their own, whatever is drafted there; every later pass runs over all of these positions. A row's numbers then depend on
the rows before it and on nothing behind it. The first token is the prefill's; each of the others is that of the first
later pass in which all before it are right. The prefill is of another shape: unless the decoder is batch invariant
(batch_invariance.py), its tokens behind the first are accepted only where the lead of the best exceeds rounding.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from stillframe.errors import Flaw, Internal, not_an_action, not_finite
from stillframe.models.base import Prefilled
from stillframe.models.llama.decoder import Decoder
from stillframe.models.llama.draft import Draft, Ids
from stillframe.models.llama.runner import DecoderRunner
from stillframe.models.llama.sequence import SequenceSlice

# How far two shapes of a pass move one token's lead over another, in units of eps |hidden row| |head's longest row|.
# Both are measured: over 1,200 random decoders of up to 16 layers at most 27 in fp32, 0.4 in bf16 and in most cases 0,
# for products are summed up in fp32 there and rounded once; in jaco-tiny 1 and 0.1. See
# tests/models/llama/test_speculative.py.
ROUNDING_MARGIN = {torch.float32: 256.0, torch.bfloat16: 1.0, torch.float16: 1.0}


@dataclass(frozen=True)
class DecodeResult:
    """An action's tokens and what they took."""

    ids: Ids  # [tokens]
    passes: int  # after the prefill
    accepted: int  # how many draft tokens, from the first on, the prefill accepted
    bit_equal: bool  # whether passes without drafts would choose the same tokens, however they round
    refusal: Internal | None = None  # a pass whose logits mean nothing: its likeliest tokens are none


@dataclass(frozen=True)
class _Verification:
    """What one pass yields for each token, as far as the draft tokens before it are right."""

    ids: Ids  # [tokens], the likeliest
    decisive: NDArray[np.bool_]  # [tokens] whether another shape of pass would choose the same
    spread: NDArray[np.float64]  # [tokens] from the highest to the lowest logit: what the choice rests on

    def settles(self, token: int) -> bool:
        """Whether every pass says the same for a token, where those before it are right; also one past the last."""
        return token == len(self.ids) or bool(self.decisive[token])


def speculative_decode(runner: DecoderRunner, frames: Sequence[Prefilled]) -> list[DecodeResult]:
    """Each frame's action tokens. Frames that are not complete after their prefill go on together, pass by pass.

    Mode exact: each is the likeliest of a pass in which all before it are right; strict: greedy tokens to the bit,
    whatever is drafted; relaxed: as exact, or a draft token within its radius; off: greedy tokens, no draft counts.
    """
    verified = zip(frames, _verify_prefills(runner.decoder, frames), strict=True)
    states = [_DecodeState(frame, verification) for frame, verification in verified]
    while unfinished := [state for state in states if not state.complete]:
        for state, verification in zip(unfinished, _verify_drafts(runner, unfinished), strict=True):
            state.update(verification)
    return [state.result for state in states]


class _DecodeState:
    """One frame's action as its tokens become known."""

    def __init__(self, frame: Prefilled, verification: _Verification):
        self.frame = frame
        self.draft_ids = self._ids = frame.draft.ids
        self._known = self._passes = 0
        self._bit_equal = True
        self._faults: list[Internal] = frame.draft.faults  # the draft's own list: its maker reads it afterwards
        self._advance(verification)
        self._accepted = _accepted_prefix(frame.draft.ids, self._ids, self._known)

    @property
    def complete(self) -> bool:
        """Whether every token is known."""
        return self._known == len(self._ids)

    @property
    def result(self) -> DecodeResult:
        """What is known."""
        return DecodeResult(self._ids, self._passes, self._accepted, self._bit_equal, next(iter(self._faults), None))

    def update(self, verification: _Verification) -> None:
        """Take in what another pass over the draft yields."""
        self._passes += 1
        self._advance(verification)

    def _advance(self, verification: _Verification) -> None:
        """Keep the tokens that a pass makes known; its other tokens are the next pass's draft."""
        self._faults += _faults(verification)
        ids, draft = np.concatenate((self._ids[: self._known], verification.ids[self._known :])), self.frame.draft
        for token in range(self._known, len(ids)):
            self._known = token + 1
            ids[token] = _chosen(token, verification, self.draft_ids, draft)
            self._bit_equal &= bool(ids[token] == verification.ids[token])
            if draft.mode == "off" or ids[token] != self.draft_ids[token]:
                break
            if not verification.settles(self._known):
                if draft.mode == "strict":
                    break
                self._bit_equal = False
        self.draft_ids = self._ids = ids


def _chosen(token: int, verification: _Verification, draft_ids: Ids, draft: Draft) -> int:
    """The likeliest id, or in mode relaxed a draft token near enough to it; only an action may replace an action."""
    best, guess = int(verification.ids[token]), int(draft_ids[token])
    near = draft.mode == "relaxed" and draft.radius is not None and abs(guess - best) <= draft.radius[token]
    accepted = near and (draft.actions is None or (best in draft.actions and guess in draft.actions))
    return guess if accepted else best


def _faults(verification: _Verification) -> list[Internal]:
    """Why nothing of a pass counts: one of its logits is not finite, or all logits of a row are equal."""
    if not np.isfinite(verification.spread).all():
        return [not_finite()]
    if not verification.spread.all():
        return [not_an_action(Flaw.FLAT, "The policy finds every token as likely as every other.")]
    return []


def _verify_prefills(decoder: Decoder, frames: Sequence[Prefilled]) -> list[_Verification]:
    """What the prefills' last rows yield."""
    lengths = [len(frame.prepared.layout.action) for frame in frames]
    read = [frame.hidden[-length:] for frame, length in zip(frames, lengths, strict=True)]
    rows = read[0] if len(read) == 1 else torch.cat(read)
    logits = decoder.logits(rows)
    ids, decisive, spread = _fetched(logits.argmax(dim=-1), _decisive(decoder, rows, logits), _spread(logits))
    columns = (ids.astype(np.int64), decisive.astype(np.bool_), spread)
    parts = (np.split(column, np.cumsum(lengths)[:-1]) for column in columns)
    return [_Verification(*own) for own in zip(*parts, strict=True)]


def _fetched(*columns: Tensor) -> NDArray[np.float64]:
    """Columns [rows] -> [columns, rows] on the host, in one transfer: an id is a whole number in float64 as well."""
    fetched: NDArray[np.float64] = torch.stack([column.double() for column in columns]).cpu().numpy()
    return fetched


def _spread(logits: Tensor) -> Tensor:
    """[rows, vocabulary] -> [rows], from the lowest to the highest of each: not finite where any one is not."""
    return logits.amax(dim=-1).double() - logits.amin(dim=-1).double()


def _decisive(decoder: Decoder, rows: Tensor, logits: Tensor) -> Tensor:
    """[rows] whether a pass of another shape would choose the same: always where it rounds the same."""
    if decoder.batch_invariant:
        return torch.ones(len(rows), dtype=torch.bool, device=rows.device)
    best = logits.float().topk(min(2, logits.shape[-1])).values
    unit = torch.finfo(rows.dtype).eps * decoder.max_head_norm * rows.float().norm(dim=-1)
    decisive: Tensor = best[:, 0] - best[:, -1] > ROUNDING_MARGIN[rows.dtype] * unit
    return decisive


def _verify_drafts(runner: DecoderRunner, states: Sequence[_DecodeState]) -> list[_Verification]:
    """What one pass over all their drafts yields; of each first token nothing."""
    ids = torch.from_numpy(np.concatenate([state.draft_ids[:-1] for state in states]))
    rows = runner.decoder.embed(ids.to(states[0].frame.kv.device))
    lengths = [len(state.draft_ids) - 1 for state in states]
    sequences = [
        SequenceSlice(own, frame.prepared.layout.action.start, frame.kv, history=frame.history)
        for frame, own in zip((state.frame for state in states), torch.split(rows, lengths), strict=True)
    ]
    logits = runner.decoder.logits(torch.cat(runner.forward(sequences)))
    likeliest, spread = _fetched(logits.argmax(dim=-1), _spread(logits))
    ends = np.cumsum(lengths)[:-1]
    return [
        _Verification(np.concatenate(([-1], own)), np.ones(len(own) + 1, np.bool_), width)
        for own, width in zip(np.split(likeliest.astype(np.int64), ends), np.split(spread, ends), strict=True)
    ]


def _accepted_prefix(draft_ids: Ids, ids: Ids, most: int) -> int:
    """How many of the first `most` are equal, from the first on."""
    wrong = np.flatnonzero(draft_ids[:most] != ids[:most])
    return int(wrong[0]) if len(wrong) else most
