"""One pass of a decoder over rows that lie in a cache: the prefill by a plan, or a few rows more.

Knows positions and plans; not what the rows mean.
"""

from __future__ import annotations

import torch
from torch import Tensor

from stillframe.models.decoder import Decoder, Tap, causal_mask
from stillframe.reuse.kv import FrameKV
from stillframe.reuse.plan import ReusePlan


def prefill(decoder: Decoder, rows: Tensor, plan: ReusePlan, kv: FrameKV, tap: Tap | None = None) -> Tensor:
    """Run the prompt's embedded rows [plan.rows, width] by `plan`, over what `kv` holds of the reused ones.

    Returns the hidden rows of those that got to the last layer, normed, in the order of their positions: the text's
    rows always do, so the last one is the prompt's last.
    """
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
