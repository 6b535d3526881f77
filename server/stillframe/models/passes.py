"""One pass of a decoder over rows that lie in a cache: the prefill by a plan, or a few rows more.

Knows positions and plans; not what the rows mean.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from stillframe.models.decoder import Decoder, Tap, causal_mask
from stillframe.reuse.kv import FrameKV
from stillframe.reuse.plan import ReusePlan


def prefill(
    decoder: Decoder,
    rows: Tensor,
    plan: ReusePlan,
    kv: FrameKV,
    tap: Tap | None = None,
    guesses: Tensor | None = None,
) -> Tensor:
    """Run the prompt's embedded rows [plan.rows, width] by `plan`, over what `kv` holds of the reused ones.

    Behind them the token ids that are guessed to follow [n], which are never reused and which the tap does not see.
    Returns the hidden rows of those that got to the last layer, normed, in the order of their positions: the text's
    rows always do, so the last 1 + n are the prompt's last and those of the guesses.
    """
    if guesses is not None and len(guesses):
        rows = torch.cat((rows, decoder.embed(guesses.to(rows.device))))
        plan, tap = replace(plan, rows=len(rows)), _of_prompt(tap, len(guesses))
    kv.begin()
    kv.reserve(plan.rows)
    positions = torch.arange(plan.rows, device=rows.device)
    hidden: Tensor = decoder.model(rows, positions, kv, causal_mask(positions, plan.rows), tap, plan.kept)
    return hidden


def run_rows(decoder: Decoder, rows: Tensor, positions: Tensor, kv: FrameKV) -> Tensor:
    """One pass over embedded rows [rows, width] at `positions` [rows], which rise -> hidden rows, normed."""
    kv.reserve(int(positions[-1]) + 1)
    hidden: Tensor = decoder.model(rows, positions, kv, causal_mask(positions, kv.length))
    return hidden


def _of_prompt(tap: Tap | None, guesses: int) -> Tap | None:
    """The tap, without the rows of the guesses: what is listened to is the prompt."""
    return None if tap is None else lambda layer, rows: tap(layer, rows[:-guesses])
