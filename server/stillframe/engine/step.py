"""THE LOOP: what robots see walks through the house, from pictures to actions, one frame or several side by side.

Knows the order of the walk and times each stage; what a stage does is the family's, the decoder's or the keeper's.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from stillframe.domain import CacheReport, DraftReport, Step, StepReport
from stillframe.engine.device import wait_for
from stillframe.engine.keeper import Asked, Keeper, Turn
from stillframe.errors import Internal, RequestError
from stillframe.models.base import Decoded, PolicyModel, Prepared
from stillframe.models.passes import run
from stillframe.stopwatch import Clock, Stopwatch


@torch.inference_mode()
def step(model: PolicyModel, keeper: Keeper, batch: Sequence[Asked], clock: Clock) -> list[Step | RequestError]:
    """Compute some frames, of each as little as its plan allows. No two are of one session.

    Each answer is what the frame would have got alone, or why it got none: the others' answers do not depend on it.
    """
    watch = Stopwatch(clock, wait_for(model.device))
    prepared = [_prepared(model, asked) for asked in batch]
    watch.lap("prepare")
    able = [(asked, own) for asked, own in zip(batch, prepared, strict=True) if isinstance(own, Prepared)]
    try:
        answers = iter(_walk(model, keeper, able, watch) if able else ())
    finally:
        keeper.put_away()
    return [own if isinstance(own, RequestError) else next(answers) for own in prepared]


def _walk(
    model: PolicyModel, keeper: Keeper, batch: Sequence[tuple[Asked, Prepared]], watch: Stopwatch
) -> list[Step | RequestError]:
    """From prepared frames to actions."""
    rows = keeper.embedded(model, batch)
    watch.lap("vision")
    turns = [keeper.plan(asked, own, seen) for (asked, own), seen in zip(batch, rows, strict=True)]
    watch.lap("plan")
    hidden = run(model.decoder, [turn.prompt(model.decoder) for turn in turns])
    sound = [_finite(own) for own in hidden]
    watch.lap("prefill")
    decoded = model.act([turn.prefilled(own) for turn, own in zip(turns, hidden, strict=True)])
    watch.lap("decode")
    caches = [keeper.keep(turn, own) if fine else None for turn, own, fine in zip(turns, decoded, sound, strict=True)]
    keeper.take_in(turns)
    watch.lap("keep")
    return [
        _answer(turn, own, cache, {"queue": asked.queued_ms, **watch.laps_ms}, len(batch))
        for (asked, _), turn, own, cache in zip(batch, turns, decoded, caches, strict=True)
    ]


def _answer(
    turn: Turn, decoded: Decoded, cache: CacheReport | None, stages_ms: dict[str, float], batch: int
) -> Step | RequestError:
    """One frame's action, and what it took; None: there is none."""
    if cache is None:
        return Internal("non-finite-action", "The policy computed NaN or infinity; stop the robot and look at the log.")
    draft = DraftReport(turn.draft.mode, turn.draft.way, decoded.accepted)
    return Step(decoded.chunk, StepReport(stages_ms, 1 + decoded.passes, cache, draft, batch, turn.past))


def _prepared(model: PolicyModel, asked: Asked) -> Prepared | RequestError:
    try:
        return asked.prepared(model)
    except RequestError as error:
        return error


def _finite(hidden: Tensor) -> bool:
    """The last row has looked at every key: what is not finite anywhere shows in it."""
    return bool(hidden[-1].isfinite().all())
