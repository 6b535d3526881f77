"""Idle refresh: a dense pass over a frame just answered, while no frame waits. Measures drift, renews the KV.

Knows how to yield between two layers; not when the device is idle.
"""

from __future__ import annotations

from functools import partial

from stillframe.domain import DraftMode, KeyframeReason, SlackReport
from stillframe.engine.core import EngineCore
from stillframe.engine.device import all_finite, inference_mode
from stillframe.engine.drift import drift_by_action, drift_of
from stillframe.engine.preemption import Preempted, ShouldYield, check_preempted
from stillframe.engine.session_state import ScheduledFrame, SessionState
from stillframe.errors import Internal
from stillframe.models.base import Decoded
from stillframe.models.llama.draft import Draft
from stillframe.reuse.kv import KVCorrupted


@inference_mode()
def refresh_idle_session(core: EngineCore, session: SessionState, should_yield: ShouldYield) -> SlackReport | None:
    """Refresh a session's last answer; returns None where there was nothing to measure.

    A delta frame, or one that was pruned, is computed again, whole, into the spare slot. The difference of the answers
    is its drift. In a bounded mode the session then goes on from the dense pass, and its caution follows the drift.

    Raises KVCorrupted for KV that is not finite, Internal for a dense pass that gives no action: the session's next
    frame is a keyframe.
    """
    frame, started_s = session.pending, core.clock()
    if frame is None:
        return None
    try:
        check_preempted(core.model.device, should_yield)
        session.resolve_relevance()
        answered = frame.decoded if frame.can_drift else None
        drifts = () if answered is None else _measure(core, session, frame, answered, should_yield)
        session.pending = None
        if session.reuse is not None and not should_yield():
            session.reuse.kv.check_integrity(frame.plan.rows, frame.prepared.layout.places)
    except (KVCorrupted, Internal):
        core.cache.drop_kv(session, KeyframeReason.INTEGRITY)
        raise
    except Preempted:
        return SlackReport((core.clock() - started_s) * 1e3, drift=None)
    return SlackReport((core.clock() - started_s) * 1e3, max(drifts), by_action=drifts) if drifts else None


def _measure(
    core: EngineCore, session: SessionState, frame: ScheduledFrame, answer: Decoded, should_yield: ShouldYield
) -> tuple[float, ...]:
    """Compute the frame whole; return the drift of each action of its answer."""
    model, runner, cache = core.model, core.runner, core.cache
    dense = core.scheduler.whole(frame, _dense_draft(frame.draft, answer))
    dense.kv = cache.slots.spare
    with dense.kv.guarded(partial(check_preempted, model.device, should_yield)):
        hidden = runner.decoder.forward([dense.prompt(model.decoder)])
        (decoded,) = runner.act([dense.prefilled(hidden[0])])
    refusal = cache.refusal(dense, decoded, finite=all_finite(hidden)[0])
    if refusal is not None:
        raise refusal
    drift = session.last_drift = drift_of(answer.normalised, decoded.normalised)
    if frame.policy is not None and frame.policy.bounded:
        cache.refresh(session, dense)
        session.caution.record(drift)
        if session.caution.full:
            session.cause = KeyframeReason.DRIFT
    return drift_by_action(answer.normalised, decoded.normalised)


def _dense_draft(draft: Draft, answer: Decoded) -> Draft:
    """The answer's tokens, as a guess of the dense pass's; none may stand unless it is the likeliest.

    To the bit where the answer's own were: where nothing was reused there is then no drift.
    """
    mode: DraftMode = "strict" if draft.mode in ("strict", "off") else "exact"
    return Draft(answer.chunk.tokens, mode) if len(draft.ids) else Draft(draft.ids, "off")
