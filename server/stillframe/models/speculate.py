"""Speculation: the action's tokens are guessed before the pass, and every pass checks all the guesses at once.

Knows a decoder, its cache and token ids; not where a guess comes from, and not what a token means.

What greedy decoding is, to the bit. Passes of different shapes round differently, and where two tokens are as good as
equal that decides. So the shapes are fixed: in the prefill the action's slots have rows of their own, whatever is
guessed to stand there; every later pass runs over all of these slots. A row's numbers then depend on the rows before it
and on nothing behind it. The first token is the prefill's; each of the others is that of the first later pass in which
all before it are right. No guess has a part in that: greedy tokens are the frame's and the plan's alone.

A guess only saves passes. One pass over the slots says what follows on each guess, and as many tokens are known as
guesses before them were right: one at least. The next pass guesses what this one said (Jacobi iteration, as in PD-VLA,
arXiv 2503.02310). The prefill is of another shape: what it says of tokens behind the first is believed only where the
lead of the best is out of rounding's reach.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from stillframe.domain import DraftMode
from stillframe.models.decoder import Decoder
from stillframe.models.passes import run_rows
from stillframe.reuse.kv import FrameKV

Ids = NDArray[np.int64]

# How far two shapes of a pass move one token's lead over another, in units of eps |hidden row| |head's longest row|.
# Both are measured: over 1,200 random decoders of up to 16 layers at most 27 in fp32, 0.4 in bf16 and in most cases 0,
# for products are summed up in fp32 there and rounded once; in jaco-tiny 1 and 0.1. tests/models/test_speculate.py.
REACH = {torch.float32: 256.0, torch.bfloat16: 1.0, torch.float16: 1.0}


@dataclass(frozen=True)
class Draft:
    """A guess at every token of an action, and what it is good for."""

    ids: Ids  # [tokens], each in the vocabulary
    mode: DraftMode = "exact"
    radius: Ids | None = None  # relaxed: [tokens] how far from the likeliest a guess still stands
    way: str = "still"  # how it was guessed

    @property
    def fed(self) -> Tensor:
        """The guesses that get rows in a pass [tokens - 1]: nothing follows on the last."""
        return torch.from_numpy(self.ids[:-1])


@dataclass(frozen=True)
class Spoken:
    """An action's tokens and what they took."""

    ids: Ids  # [tokens]
    passes: int  # after the prefill
    accepted: int  # how many guesses, from the first on, the prefill found right


@dataclass(frozen=True)
class _Said:
    """What one pass says of each token, as far as the guesses before it are right."""

    ids: Ids  # [tokens]
    clear: NDArray[np.bool_]  # [tokens] whether another shape of pass would say the same


def speak(decoder: Decoder, hidden: Tensor, slots: range, kv: FrameKV, draft: Draft) -> Spoken:
    """The tokens at the positions `slots`, after a prefill over the prompt and `draft.fed`.

    `hidden` [rows, width] ends with the prompt's last row and those of the guesses. Mode exact: greedy tokens; relaxed:
    each is the likeliest, or a guess within its radius; off: greedy tokens, and no guess is looked at.
    """
    said = _first(decoder, hidden[-len(slots) :])
    ids, guessed, passes = draft.ids.copy(), draft.ids, 0
    known = accepted = _advance(ids, 0, said, guessed, draft)
    while known < len(slots):
        guessed = np.concatenate((ids[:known], said.ids[known:]))
        said = _again(decoder, guessed[:-1], slots, kv)
        passes += 1
        known = _advance(ids, known, said, guessed, draft)
    return Spoken(ids, passes, _agreed(draft.ids, ids, accepted))


def _advance(ids: Ids, known: int, said: _Said, guessed: Ids, draft: Draft) -> int:
    """Write down what a pass makes known behind the `known` first ids; returns how many are known then."""
    while True:
        ids[known] = _chosen(known, said, guessed, draft)
        known += 1
        if known == len(ids) or draft.mode == "off" or ids[known - 1] != guessed[known - 1]:
            return known
        if draft.mode == "exact" and not said.clear[known]:
            return known


def _chosen(token: int, said: _Said, guessed: Ids, draft: Draft) -> int:
    """The likeliest id, or in mode relaxed a guess that is near enough to it."""
    best, guess = int(said.ids[token]), int(guessed[token])
    near = draft.mode == "relaxed" and draft.radius is not None and abs(guess - best) <= draft.radius[token]
    return guess if near else best


def _first(decoder: Decoder, rows: Tensor) -> _Said:
    """What the prefill's rows [tokens, width] say."""
    logits = decoder.logits(rows).float()
    best = logits.topk(min(2, logits.shape[-1])).values
    lead = best[:, 0] - best[:, -1]
    reach = REACH[rows.dtype] * torch.finfo(rows.dtype).eps * decoder.longest * rows.float().norm(dim=-1)
    ids, clear = torch.stack((logits.argmax(dim=-1), (lead > reach).long())).cpu().numpy()
    return _Said(ids, clear.astype(np.bool_))


def _again(decoder: Decoder, guessed: Ids, slots: range, kv: FrameKV) -> _Said:
    """What a pass over all guesses says [tokens]; of the first token nothing."""
    positions = torch.arange(slots.start, slots.stop - 1, device=kv.device)
    rows = decoder.embed(torch.from_numpy(guessed).to(kv.device))
    ids = decoder.logits(run_rows(decoder, rows, positions, kv)).argmax(dim=-1).cpu().numpy()
    return _Said(np.concatenate(([-1], ids)), np.ones(len(slots), np.bool_))


def _agreed(draft: Ids, ids: Ids, most: int) -> int:
    """How many of the first `most` are equal, from the first on."""
    wrong = np.flatnonzero(draft[:most] != ids[:most])
    return int(wrong[0]) if len(wrong) else most
