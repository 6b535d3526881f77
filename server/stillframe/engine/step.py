"""THE LOOP: one observation's walk through the house, from picture to action.

Knows the order of the walk and times each stage; what a stage does is the family's and the decoder's business.
"""

from __future__ import annotations

from collections.abc import Callable

import torch

from stillframe.domain import Observation, Step, StepReport
from stillframe.models.base import PolicyModel
from stillframe.models.greedy import run_rows
from stillframe.models.layout import TokenLayout
from stillframe.reuse.kv import FrameKV

Clock = Callable[[], float]  # seconds, monotonic


@torch.inference_mode()
def step(model: PolicyModel, observation: Observation, clock: Clock, queued_ms: float = 0.0) -> Step:
    """Compute one frame whole. Raises Unprocessable for an observation that the checkpoint cannot serve."""
    watch = Stopwatch(clock, queued_ms)
    prepared = model.prepare(observation)
    watch.lap("prepare")
    rows = model.embed(prepared)
    watch.lap("vision")
    kv = frame_kv(model, prepared.layout)
    hidden = run_rows(model.decoder, rows, torch.arange(len(rows), device=model.device), kv)
    watch.lap("prefill")
    decoded = model.act(hidden, prepared, kv)
    watch.lap("decode")
    return Step(decoded.chunk, StepReport(watch.laps_ms, passes=1 + decoded.passes))


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


class Stopwatch:
    """Time between laps, by stage name. Waiting for the device is the reader's affair: actions end on the CPU."""

    def __init__(self, clock: Clock, queued_ms: float):
        self.laps_ms = {"queue": queued_ms}
        self._clock = clock
        self._last = clock()

    def lap(self, stage: str) -> None:
        """End a stage."""
        now = self._clock()
        self.laps_ms[stage] = (now - self._last) * 1e3
        self._last = now
