"""THE LOOP: one observation's walk through the house, from picture to action.

Knows the order of the walk and times each stage; what a stage does is the family's and the decoder's business.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch

from stillframe.domain import Observation, Step, StepReport
from stillframe.models.base import PolicyModel
from stillframe.models.greedy import run_rows
from stillframe.models.layout import TokenLayout
from stillframe.reuse.kv import FrameKV
from stillframe.stopwatch import Clock, Stopwatch, no_wait


@torch.inference_mode()
def step(model: PolicyModel, observation: Observation, clock: Clock, queued_ms: float = 0.0) -> Step:
    """Compute one frame whole. Raises Unprocessable for an observation that the checkpoint cannot serve."""
    watch = Stopwatch(clock, wait_for(model.device))
    prepared = model.prepare(observation)
    watch.lap("prepare")
    rows = model.embed(prepared)
    watch.lap("vision")
    kv = frame_kv(model, prepared.layout)
    hidden = run_rows(model.decoder, rows, torch.arange(len(rows), device=model.device), kv)
    watch.lap("prefill")
    decoded = model.act(hidden, prepared, kv)
    watch.lap("decode")
    return Step(decoded.chunk, StepReport({"queue": queued_ms, **watch.laps_ms}, passes=1 + decoded.passes))


def frame_kv(model: PolicyModel, layout: TokenLayout) -> FrameKV:
    """Storage for one frame's keys and values, prompt and action."""
    config = model.decoder.config
    return FrameKV(
        layers=config.num_hidden_layers,
        kv_heads=config.num_key_value_heads,
        head_dim=config.head_dim,
        capacity=layout.total_rows,
        dtype=model.dtype,
        device=model.device,
    )


def wait_for(device: torch.device) -> Callable[[], None]:
    """What a stage's time has to wait for: a GPU works on after it is asked, a CPU is done when it answers."""
    return partial(torch.cuda.synchronize, device) if device.type == "cuda" else no_wait
