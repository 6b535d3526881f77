"""A pass over one frame beside the queue, by itself. For refreshes and audits.

Knows how one is run and checked; not what the pass is for, nor when the device has time for it.
"""

from __future__ import annotations

from stillframe.domain import DraftMode
from stillframe.engine.core import EngineCore
from stillframe.engine.device import all_finite
from stillframe.engine.session_state import ScheduledFrame
from stillframe.models.base import Decoded
from stillframe.models.llama.draft import Draft
from stillframe.models.runner import ModelRunner


def compute_beside(core: EngineCore, frame: ScheduledFrame, runner: ModelRunner) -> Decoded:
    """Compute a frame by its plan, into its KV. Raises Internal for an answer that is no action."""
    hidden = runner.decoder.forward([frame.prompt(core.model.decoder)])
    (decoded,) = runner.act([frame.prefilled(hidden[0])])
    refusal = core.cache.refusal(frame, decoded, finite=all_finite(hidden)[0])
    if refusal is not None:
        raise refusal
    return decoded


def verified_draft(draft: Draft, answer: Decoded) -> Draft:
    """An answer's tokens, as a guess of another pass's over the same frame; none stands unless it is the likeliest.

    To the bit where the answer's own were: where both passes reuse nothing there is then no drift.
    """
    mode: DraftMode = "strict" if draft.mode in ("strict", "off") else "exact"
    return Draft(answer.chunk.tokens, mode) if len(draft.ids) else Draft(draft.ids, "off")
