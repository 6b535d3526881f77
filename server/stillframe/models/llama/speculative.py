"""Speculation: the action's tokens are guessed before the pass, and every pass checks all the guesses at once.

Knows a decoder, its cache and token ids; not where a guess comes from, and not what a token means.

What greedy decoding is, to the bit. Passes of different shapes round differently, and where two tokens are as good as
equal that decides. So the shapes are fixed: in the prefill the action's slots have rows of their own, whatever is
guessed to stand there; every later pass runs over all of these slots. A row's numbers then depend on the rows before it
and on nothing behind it. The first token is the prefill's; each of the others is that of the first later pass in which
all before it are right. No guess has a part in that: greedy tokens are the frame's and the plan's alone.

A guess only saves passes. One pass over the slots says what follows on each guess, and as many tokens are known as
guesses before them were right: one at least. The next pass guesses what this one said (Jacobi iteration, as in PD-VLA,
arXiv 2503.02310). The prefill is of another shape: unless the decoder is steady (steadiness.py), what it says of tokens
behind the first is believed only where the lead of the best is out of rounding's reach.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from stillframe.domain import DraftMode
from stillframe.errors import Flaw, Internal, not_an_action, not_finite
from stillframe.models.llama.decoder import Decoder
from stillframe.models.llama.history_attention import Recall
from stillframe.models.llama.runner import DecoderRunner
from stillframe.models.llama.sequence import Strand
from stillframe.reuse.kv import FrameKV

Ids = NDArray[np.int64]

# How far two shapes of a pass move one token's lead over another, in units of eps |hidden row| |head's longest row|.
# Both are measured: over 1,200 random decoders of up to 16 layers at most 27 in fp32, 0.4 in bf16 and in most cases 0,
# for products are summed up in fp32 there and rounded once; in jaco-tiny 1 and 0.1. See
# tests/models/llama/test_speculative.py.
REACH = {torch.float32: 256.0, torch.bfloat16: 1.0, torch.float16: 1.0}


@dataclass(frozen=True)
class Draft:
    """A guess at every token of an action, and what it is good for."""

    ids: Ids  # [tokens], each in the vocabulary
    mode: DraftMode = "exact"
    radius: Ids | None = None  # relaxed: [tokens] how far from the likeliest a guess still stands
    way: str = "still"  # how it was guessed
    actions: range | None = None  # the ids that are actions: no other guess stands for another token; None: all are
    faults: list[Internal] = field(default_factory=list, compare=False, repr=False)  # what passes over it found wrong

    def among(self, actions: range | None) -> Draft:
        """The same for a pass to come, of ids that are actions."""
        ids = self.ids if actions is None else np.clip(self.ids, actions.start, actions.stop - 1)
        return replace(self, ids=ids, actions=actions, faults=[])

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
    refusal: Internal | None = None  # a pass whose numbers mean nothing: its likeliest tokens are none


@dataclass(frozen=True)
class Utterance:
    """One action that is to be said: where, and what a prefill over its prompt and `draft.fed` has left."""

    hidden: Tensor  # [rows, width]; the last are the prompt's last and those of the guesses
    slots: range  # positions of its tokens
    kv: FrameKV
    draft: Draft
    history: Recall | None = None  # older frames, at which every row looks


@dataclass(frozen=True)
class _Said:
    """What one pass says of each token, as far as the guesses before it are right."""

    ids: Ids  # [tokens]
    clear: NDArray[np.bool_]  # [tokens] whether another shape of pass would say the same
    spread: NDArray[np.float64]  # of each row: from the likeliest to the least likely: what the choice rests on


def speak(runner: DecoderRunner, utterances: Sequence[Utterance]) -> list[Spoken]:
    """Their tokens. Whatever is not complete after the prefill goes on together, pass by pass.

    Mode exact: greedy tokens; relaxed: each is the likeliest, or a guess within its radius; off: greedy tokens, and no
    guess is looked at.
    """
    heard = zip(utterances, _first(runner.decoder, utterances), strict=True)
    speeches = [_Speech(utterance, said) for utterance, said in heard]
    while unfinished := [speech for speech in speeches if not speech.complete]:
        for speech, said in zip(unfinished, _again(runner, unfinished), strict=True):
            speech.take(said)
    return [speech.spoken for speech in speeches]


class _Speech:
    """One action as its tokens become known."""

    def __init__(self, utterance: Utterance, said: _Said):
        self.utterance = utterance
        self.guessed = self._ids = utterance.draft.ids
        self._known = self._passes = 0
        self._faults: list[Internal] = utterance.draft.faults  # told to whoever made the draft, whatever a family does
        self._advance(said)
        self._accepted = _agreed(utterance.draft.ids, self._ids, self._known)

    @property
    def complete(self) -> bool:
        """Whether every token is known."""
        return self._known == len(self._ids)

    @property
    def spoken(self) -> Spoken:
        """What is known."""
        return Spoken(self._ids, self._passes, self._accepted, next(iter(self._faults), None))

    def take(self, said: _Said) -> None:
        """Take in what another pass over the guesses said."""
        self._passes += 1
        self._advance(said)

    def _advance(self, said: _Said) -> None:
        """Write down what a pass makes known; what it says of the rest is the next pass's guess."""
        self._faults += _faults(said)
        ids, draft = np.concatenate((self._ids[: self._known], said.ids[self._known :])), self.utterance.draft
        for token in range(self._known, len(ids)):
            self._known = token + 1
            ids[token] = _chosen(token, said, self.guessed, draft)
            right = draft.mode != "off" and ids[token] == self.guessed[token]
            if not right or (draft.mode == "exact" and not said.clear[min(self._known, len(ids) - 1)]):
                break
        self.guessed = self._ids = ids


def _chosen(token: int, said: _Said, guessed: Ids, draft: Draft) -> int:
    """The likeliest id, or in mode relaxed a guess that is near enough to it; an action stands for an action only."""
    best, guess = int(said.ids[token]), int(guessed[token])
    near = draft.mode == "relaxed" and draft.radius is not None and abs(guess - best) <= draft.radius[token]
    stands = near and (draft.actions is None or (best in draft.actions and guess in draft.actions))
    return guess if stands else best


def _faults(said: _Said) -> list[Internal]:
    """Why nothing of what a pass says counts: one number of it is none, or a row says the same of every token."""
    if not np.isfinite(said.spread).all():
        return [not_finite()]
    if not said.spread.all():
        return [not_an_action(Flaw.FLAT, "The policy finds every token as likely as every other.")]
    return []


def _first(decoder: Decoder, utterances: Sequence[Utterance]) -> list[_Said]:
    """What the prefills' rows say."""
    lengths = [len(utterance.slots) for utterance in utterances]
    heard = [utterance.hidden[-length:] for utterance, length in zip(utterances, lengths, strict=True)]
    rows = heard[0] if len(heard) == 1 else torch.cat(heard)
    logits = decoder.logits(rows)
    ids, clear, spread = _fetched(logits.argmax(dim=-1), _clear(decoder, rows, logits), _spread(logits))
    parts = (np.split(each, np.cumsum(lengths)[:-1]) for each in (ids.astype(np.int64), clear.astype(np.bool_), spread))
    return [_Said(*own) for own in zip(*parts, strict=True)]


def _fetched(*columns: Tensor) -> NDArray[np.float64]:
    """Columns [rows] -> [columns, rows] on the host, in one go: an id is a whole number in float64 as well."""
    fetched: NDArray[np.float64] = torch.stack([column.double() for column in columns]).cpu().numpy()
    return fetched


def _spread(logits: Tensor) -> Tensor:
    """[rows, vocabulary] -> [rows], from the lowest to the highest of each: not finite where any one is not."""
    return logits.amax(dim=-1).double() - logits.amin(dim=-1).double()


def _clear(decoder: Decoder, rows: Tensor, logits: Tensor) -> Tensor:
    """[rows] whether a pass of another shape would say the same: always where it rounds the same."""
    if decoder.steady:
        return torch.ones(len(rows), dtype=torch.bool, device=rows.device)
    best = logits.float().topk(min(2, logits.shape[-1])).values
    reach = REACH[rows.dtype] * torch.finfo(rows.dtype).eps * decoder.longest * rows.float().norm(dim=-1)
    clear: Tensor = best[:, 0] - best[:, -1] > reach
    return clear


def _again(runner: DecoderRunner, speeches: Sequence[_Speech]) -> list[_Said]:
    """What a pass over all their guesses says; of each first token nothing."""
    fed = torch.from_numpy(np.concatenate([speech.guessed[:-1] for speech in speeches]))
    rows = runner.decoder.embed(fed.to(speeches[0].utterance.kv.device))
    lengths = [len(speech.guessed) - 1 for speech in speeches]
    strands = [
        Strand(own, speech.utterance.slots.start, speech.utterance.kv, history=speech.utterance.history)
        for speech, own in zip(speeches, torch.split(rows, lengths), strict=True)
    ]
    logits = runner.decoder.logits(torch.cat(runner.forward(strands)))
    ids, spread = _fetched(logits.argmax(dim=-1), _spread(logits))
    ends = np.cumsum(lengths)[:-1]
    return [
        _Said(np.concatenate(([-1], own)), np.ones(len(own) + 1, np.bool_), width)
        for own, width in zip(np.split(ids.astype(np.int64), ends), np.split(spread, ends), strict=True)
    ]


def _agreed(draft: Ids, ids: Ids, most: int) -> int:
    """How many of the first `most` are equal, from the first on."""
    wrong = np.flatnonzero(draft[:most] != ids[:most])
    return int(wrong[0]) if len(wrong) else most
