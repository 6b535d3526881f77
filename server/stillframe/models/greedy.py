"""Greedy decoding: one token a pass, each the likeliest over the whole vocabulary.

Knows a decoder and its cache; not what the tokens mean.
"""

from __future__ import annotations

import torch
from torch import Tensor

from stillframe.models.decoder import Decoder
from stillframe.models.passes import run_rows
from stillframe.reuse.kv import FrameKV


def decode_greedily(decoder: Decoder, last_hidden: Tensor, slots: range, kv: FrameKV) -> Tensor:
    """Fill the positions `slots` with the tokens that follow `last_hidden` [width] -> ids [len(slots)]."""
    ids = [decoder.logits(last_hidden).argmax()]
    for position in slots[:-1]:
        positions = torch.tensor([position], device=last_hidden.device)
        hidden = run_rows(decoder, decoder.embed(ids[-1][None]), positions, kv)
        ids.append(decoder.logits(hidden[-1]).argmax())
    return torch.stack(ids)
