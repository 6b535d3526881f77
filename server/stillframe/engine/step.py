"""THE LOOP: what robots see walks through the house, from pictures to actions, one frame or several side by side.

Knows the order of the walk and times each stage; what a stage does is the family's, the decoder's or the keeper's.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from stillframe.domain import CacheReport, DraftReport, Step, StepReport
from stillframe.engine.device import wait_for
from stillframe.engine.session_cache import Asked, Keeper, Turn
from stillframe.errors import Internal, RequestError
from stillframe.models.base import Decoded, PolicyModel, Prepared
from stillframe.models.runner import ModelRunner
from stillframe.stopwatch import Clock, Stopwatch


@torch.inference_mode()
def step(runner: ModelRunner, keeper: Keeper, batch: Sequence[Asked], clock: Clock) -> list[Step | RequestError]:
    """Compute some frames, of each as little as its plan allows. No two are of one session.

    Each answer is what the frame would have got alone, or why it got none: the others' answers do not depend on it.
    """
    watch = Stopwatch(clock, wait_for(runner.model.device))
    prepared = [_prepared(runner.model, asked) for asked in batch]
    watch.lap("prepare")
    able = [(asked, own) for asked, own in zip(batch, prepared, strict=True) if isinstance(own, Prepared)]
    try:
        answers = iter(_walk(runner, keeper, able, watch) if able else ())
    finally:
        keeper.put_away()
    return [own if isinstance(own, RequestError) else next(answers) for own in prepared]


def _walk(
    runner: ModelRunner, keeper: Keeper, batch: Sequence[tuple[Asked, Prepared]], watch: Stopwatch
) -> list[Step | RequestError]:
    """From prepared frames to actions."""
    rows = keeper.embedded(runner, batch)
    watch.lap("vision")
    turns = [keeper.plan(asked, own, seen) for (asked, own), seen in zip(batch, rows, strict=True)]
    watch.lap("plan")
    hidden = runner.decoder.forward([turn.prompt(runner.model.decoder) for turn in turns])
    finite = _finite(hidden)
    watch.lap("prefill")
    decoded = runner.act([turn.prefilled(own) for turn, own in zip(turns, hidden, strict=True)])
    watch.lap("decode")
    results = [keeper.judge(turn, own, finite=fine) for turn, own, fine in zip(turns, decoded, finite, strict=True)]
    keeper.take_in(turns)
    watch.lap("keep")
    return [
        _answer(turn, own, result, {"queue": asked.queued_ms, **watch.laps_ms}, len(batch))
        for (asked, _), turn, own, result in zip(batch, turns, decoded, results, strict=True)
    ]


def _answer(
    turn: Turn, decoded: Decoded, result: CacheReport | Internal, stages_ms: dict[str, float], batch: int
) -> Step | RequestError:
    """One frame's action and what it took, or why there is none."""
    if isinstance(result, Internal):
        return result
    draft = DraftReport(turn.draft.mode, turn.draft.way, decoded.accepted)
    return Step(decoded.chunk, StepReport(stages_ms, 1 + decoded.passes, result, draft, batch, turn.past))


def _prepared(model: PolicyModel, asked: Asked) -> Prepared | RequestError:
    try:
        return asked.prepared(model)
    except RequestError as error:
        return error


def _finite(hidden: Sequence[Tensor]) -> list[bool]:
    """Of each frame's rows that are read. The last has looked at every key: what is not finite there shows in it."""
    return [bool(fine) for fine in torch.stack([own.isfinite().all() for own in hidden]).tolist()]
