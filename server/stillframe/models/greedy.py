"""Greedy decoding: one token a pass, each the likeliest over the whole vocabulary.

Knows a decoder and its cache; not what the tokens mean.
"""

from __future__ import annotations

import torch
from torch import Tensor

from stillframe.models.decoder import Decoder, causal_mask
from stillframe.reuse.kv import FrameKV


def run_rows(decoder: Decoder, rows: Tensor, positions: Tensor, kv: FrameKV) -> Tensor:
    """One pass over embedded rows [rows, width] at `positions` [rows], which rise -> hidden rows, normed."""
    kv.reserve(int(positions[-1]) + 1)
    hidden: Tensor = decoder.model(rows, positions, kv, causal_mask(positions, kv.length))
    return hidden


def decode_greedily(decoder: Decoder, last_hidden: Tensor, slots: range, kv: FrameKV) -> Tensor:
    """Fill the positions `slots` with the tokens that follow `last_hidden` [width] -> ids [len(slots)]."""
    ids = [decoder.logits(last_hidden).argmax()]
    for position in slots[:-1]:
        positions = torch.tensor([position], device=last_hidden.device)
        hidden = run_rows(decoder, decoder.embed(ids[-1][None]), positions, kv)
        ids.append(decoder.logits(hidden[-1]).argmax())
    return torch.stack(ids)
