"""THE LOOP: one observation's walk through the house, from picture to action.

Knows the order of the walk and times each stage; what a stage does is the family's, the decoder's or the keeper's.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor

from stillframe.domain import DraftReport, Step, StepReport
from stillframe.engine.keeper import Asked, Keeper
from stillframe.errors import Internal
from stillframe.models.base import PolicyModel
from stillframe.models.passes import prefill
from stillframe.stopwatch import Clock, Stopwatch, no_wait


@torch.inference_mode()
def step(model: PolicyModel, keeper: Keeper, asked: Asked, clock: Clock, queued_ms: float = 0.0) -> Step:
    """Compute one frame, as little of it as its plan allows.

    Raises Unprocessable for an observation that the checkpoint cannot serve.
    """
    watch = Stopwatch(clock, wait_for(model.device))
    prepared = model.prepare(asked.observation)
    watch.lap("prepare")
    rows = model.embed(prepared)
    watch.lap("vision")
    turn = keeper.plan(asked, prepared, rows)
    watch.lap("plan")
    hidden = prefill(model.decoder, rows, turn.plan, turn.kv, turn.tap, turn.draft.fed)
    _check_finite(hidden)
    watch.lap("prefill")
    decoded = model.act(hidden, prepared, turn.kv, turn.draft)
    watch.lap("decode")
    cache = keeper.keep(turn, decoded)
    watch.lap("keep")
    draft = DraftReport(turn.draft.mode, turn.draft.way, decoded.accepted)
    report = StepReport({"queue": queued_ms, **watch.laps_ms}, 1 + decoded.passes, cache, draft)
    return Step(decoded.chunk, report)


def _check_finite(hidden: Tensor) -> None:
    """The last row has looked at every key: what is not finite anywhere shows in it. Raises Internal."""
    if not bool(hidden[-1].isfinite().all()):
        raise Internal("non-finite-action", "The policy computed NaN or infinity; stop the robot and look at the log.")


def wait_for(device: torch.device) -> Callable[[], None]:
    """What a stage's time has to wait for: a GPU works on after it is asked, a CPU is done when it answers."""
    return partial(torch.cuda.synchronize, device) if device.type == "cuda" else no_wait
