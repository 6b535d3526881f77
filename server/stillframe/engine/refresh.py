"""Idle refresh: a dense pass over a frame just answered, while no frame waits. Measures drift, renews the KV.

Knows what is kept of such a pass; not when the device is idle.
"""

from __future__ import annotations

from stillframe.domain import KeyframeReason, SlackReport
from stillframe.engine.beside import compute_beside, verified_draft
from stillframe.engine.core import EngineCore
from stillframe.engine.device import inference_mode
from stillframe.engine.drift import drift_by_action
from stillframe.engine.preemption import Preempted, ShouldYield, check_preempted, yielding_between_blocks
from stillframe.engine.session_state import ScheduledFrame, SessionState
from stillframe.errors import Internal
from stillframe.models.base import Decoded
from stillframe.models.runner import ModelRunner
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
        return SlackReport((core.clock() - started_s) * 1e3, drift=None) if frame.can_drift else None
    took_ms = (core.clock() - started_s) * 1e3
    return SlackReport(took_ms, core.answers.drift(drifts), by_action=drifts) if drifts else None


def _measure(
    core: EngineCore, session: SessionState, frame: ScheduledFrame, answer: Decoded, should_yield: ShouldYield
) -> tuple[float, ...]:
    """Compute the frame whole; return the drift of each action of its answer."""
    dense = core.scheduler.whole(frame, verified_draft(frame.draft, answer))
    runner = ModelRunner.eager(core.model)  # a captured pass could not give way
    core.cache.audit = None  # what it would be computed from lies in the spare slot
    dense.kv = core.cache.slots.spare
    with yielding_between_blocks(core.model.device, should_yield):
        core.cache.vision.look_whole(runner, [dense])
        decoded = compute_beside(core, dense, runner)
    drifts = drift_by_action(answer.normalised, decoded.normalised)
    session.last_drift = core.answers.drift(drifts)
    if frame.policy is not None and frame.policy.bounded:
        core.cache.refresh(session, dense)
        session.measured(session.last_drift)
    session.unmeasured = 0  # as published nothing steers by it
    return drifts
