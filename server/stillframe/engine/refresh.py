"""The slack: a dense pass over the frame just answered, while the robot moves. Measures drift, refreshes what is kept.

Knows how to give way between two layers; not when there is a pause.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial

import torch

from stillframe.domain import KeyframeReason, SlackReport
from stillframe.engine.device import wait_for
from stillframe.engine.drift import drift_of
from stillframe.engine.session_cache import Keeper, Turn
from stillframe.engine.session_state import Session
from stillframe.errors import Internal
from stillframe.models.base import Decoded, PolicyModel
from stillframe.models.llama.draft import Draft
from stillframe.models.runner import ModelRunner
from stillframe.reuse.kv import KVCorrupted
from stillframe.reuse.plan import ReusePlan
from stillframe.stopwatch import Clock

Wanted = Callable[[], bool]  # whether a frame waits for the device


class GaveWay(Exception):
    """A frame came in before the pause's work was through; nothing of a dense pass is kept."""


@torch.inference_mode()
def rest(
    runner: ModelRunner, keeper: Keeper, session: Session[Turn], clock: Clock, wanted: Wanted
) -> SlackReport | None:
    """Use a pause for a session's last answer; returns None where there was nothing to measure.

    A delta frame is computed again, whole, beside the session's own storage. The difference of the answers is its
    drift. In a bounded mode the session then goes on from the dense pass, and its caution follows the drift.

    Raises KVCorrupted for numbers that are none in what is kept, Internal for a dense pass that says no action: the
    session's next frame is whole.
    """
    turn, started_s = session.pending, clock()
    if turn is None:
        return None
    try:
        _give_way(runner.model, wanted)
        keeper.catch_up(session)
        answered = turn.decoded if turn.keyframe is None else None
        drift = None if answered is None else _measure(runner, keeper, session, turn, answered, wanted)
        session.pending = None
        if session.remembered is not None and not wanted():
            session.remembered.kv.check_integrity(turn.plan.rows)
    except (KVCorrupted, Internal):
        keeper.strip(session, KeyframeReason.INTEGRITY)
        raise
    except GaveWay:
        return SlackReport((clock() - started_s) * 1e3, drift=None)
    return None if drift is None else SlackReport((clock() - started_s) * 1e3, drift)


def _measure(
    runner: ModelRunner, keeper: Keeper, session: Session[Turn], turn: Turn, answer: Decoded, wanted: Wanted
) -> float:
    """Compute the frame whole; return the drift of its answer."""
    tap = keeper.tap(turn.frame) if _bounded(turn) else None
    spare = keeper.storage.spare
    beside = replace(turn, plan=_whole(turn.plan), kv=spare, tap=tap, draft=Draft(answer.chunk.tokens))
    with spare.guarded(partial(_give_way, runner.model, wanted)):
        (hidden,) = runner.decoder.forward([beside.prompt(runner.model.decoder)])
        (dense,) = runner.act([beside.prefilled(hidden)])
    refusal = keeper.refusal(beside, dense, finite=bool(hidden.isfinite().all()))
    if refusal is not None:
        raise refusal
    drift = drift_of(answer.normalised, dense.normalised)
    if _bounded(turn):
        keeper.refresh(session, turn, tap)
        session.caution.saw(drift)
        if session.caution.full:
            session.cause = KeyframeReason.DRIFT
    return drift


def _give_way(model: PolicyModel, wanted: Wanted) -> None:
    """Raise GaveWay if a frame waits. A GPU first does what it was asked for, or the frame would wait for it unseen."""
    wait_for(model.device)()
    if wanted():
        raise GaveWay


def _whole(plan: ReusePlan) -> ReusePlan:
    return ReusePlan.whole(plan.rows, len(plan.counts), len(plan.static), plan.order.device)


def _bounded(turn: Turn) -> bool:
    return turn.frame.recipe is not None and turn.frame.recipe.bounded
