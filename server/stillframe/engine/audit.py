"""Audits: after a keyframe was answered, the delta plan that it replaced is computed too, and the actions compared.

Knows how one is run; not which keyframes are audited. The dense pass is the answer's, so that drift is measured for the
price of a delta frame, where there are no pauses to measure it in.
"""

from __future__ import annotations

from stillframe.domain import SlackReport
from stillframe.engine.beside import compute_beside, verified_draft
from stillframe.engine.core import EngineCore
from stillframe.engine.device import inference_mode
from stillframe.engine.drift import drift_by_action
from stillframe.engine.session_state import Audit


@inference_mode()
def run_audit(core: EngineCore, audit: Audit) -> SlackReport:
    """Compute what would have been answered; the session's caution follows how far that is from what was.

    Gives way to no frame: its keyframe has been paid for, and a device that is always busy would else never learn. How
    long frames wait for audits is bounded by what these may cost. Raises Internal for a delta that gives no action.
    """
    delta, started_s = audit.delta, core.clock()
    delta.draft = verified_draft(delta.draft, audit.answer)
    try:
        decoded = compute_beside(core, delta, core.runner)
    finally:
        took_s = core.clock() - started_s
        core.scheduler.audits.spend(took_s)
    drifts = drift_by_action(decoded.normalised, audit.answer.normalised)
    drift = core.answers.drift(drifts)
    audit.session.measured(drift, audit.share)
    return SlackReport(took_s * 1e3, drift, by_action=drifts, audit=True)
