"""Scheduler: decides what is computed of each frame: its plan, its draft, the older frames that it looks at.

Knows the planner's, the drafts' and the history's decisions, and their order; allocates no KV and keeps no frame.
"""

from __future__ import annotations

from dataclasses import replace

from torch import Tensor

from stillframe.domain import KeyframeReason
from stillframe.engine.audit_budget import AuditBudget
from stillframe.engine.drafts import DraftFactory
from stillframe.engine.history import HistoryManager
from stillframe.engine.kv_slots import kv_shape
from stillframe.engine.planner import Planner
from stillframe.engine.pruning_methods import pruning_methods
from stillframe.engine.requests import FrameRequest
from stillframe.engine.selector import open_selector
from stillframe.engine.session_state import ScheduledFrame, SessionState
from stillframe.engine.settings import DEFAULT_DECODING, DecodingSettings
from stillframe.errors import ConfigError
from stillframe.models.base import PolicyModel, Prepared, RelevanceProbe
from stillframe.models.expert_probe import ExpertAttentionProbe
from stillframe.models.llama.attention_probe import TextAttentionProbe
from stillframe.models.llama.draft import Draft
from stillframe.reuse.settings import ReuseSettings
from stillframe.reuse.state import ReuseState
from stillframe.stopwatch import Clock

GOLDEN = 0.618034  # its multiples, less their whole parts, fill the range from 0 to 1 evenly


class Scheduler:
    """One model's plans. What they depend on hangs on the sessions."""

    def __init__(
        self,
        model: PolicyModel,
        settings: ReuseSettings,
        clock: Clock,
        decoding: DecodingSettings = DEFAULT_DECODING,
        history: HistoryManager | None = None,
    ):
        """Raises ConfigError for settings that do not fit the checkpoint."""
        _check_relevance(model, settings)
        self.selector = open_selector(model, settings.adaptive)
        self.planner = Planner(settings, model.decoder.config.num_hidden_layers, self.selector)
        self.drafts = DraftFactory(decoding, model.info.action_names, model.decoder.config.vocab_size)
        self._pruning = pruning_methods(model, settings, history=history is not None)
        self._decoder = model.decoder
        self._default_mode = settings.mode
        self._guidance = decoding.guidance_rule
        self._slot_rows = kv_shape(model, settings.slot_text_tokens).capacity
        self._clock = clock
        self._history = history
        self.audits = AuditBudget(settings.adaptive.audit_share)

    def schedule(
        self, request: FrameRequest, prepared: Prepared, rows: Tensor, session: SessionState | None
    ) -> ScheduledFrame:
        """Decide which of the prompt's rows [prompt_rows, width] are computed, and whether their KV is to stay."""
        mode = (session.ref.mode or self._default_mode) if session else "off"
        proposer = session.drafts if session else None
        draft = self.drafts.draft(proposer, prepared.no_motion_tokens).among(prepared.actions)
        pruning = self._pruning.get(mode)
        frame = self.planner.frame(request.observation, prepared, rows, mode, self._clock(), draft, pruning)
        if session is None:
            frame.plan, frame.keyframe = self.planner.whole(frame), KeyframeReason.STATELESS
            return frame
        session.resolve_relevance()
        fits = frame.total_rows <= self._slot_rows
        cause = session.cause if fits else KeyframeReason.TOO_LONG
        self.plan(frame, session.reuse, cause, session.caution.level)
        frame.session, frame.is_cached = session, fits and frame.policy is not None
        frame.seed = session.ref.seed
        if frame.is_cached and session.reuse is not None and self._audit_due(frame, session, session.reuse):
            self._replace_by_keyframe(frame)
        if session.ref.rtc is not None:
            asked, key = session.ref.rtc, prepared.unnorm_key
            frame.held, frame.rtc_report = session.chunks.hold(asked, key, self._guidance)
        if self._history is not None:
            session.history = session.history or self._history.begin()
            frame.history = self._history.lend(session.history, prepared.layout)
        return frame

    def plan(
        self,
        frame: ScheduledFrame,
        state: ReuseState | None,
        cause: KeyframeReason | None = None,
        caution: float = 0.0,
    ) -> None:
        """Plan a frame over what `state` holds, and probe its pass where the next plan will ask for that."""
        frame.plan, frame.keyframe = self.planner.plan(frame, state, cause, caution)
        published = frame.policy is not None and frame.policy.published
        if frame.keyframe is not None or published:  # relevance out of dense passes, but as published
            frame.probe = self.probe(frame)

    def whole(self, frame: ScheduledFrame, draft: Draft) -> ScheduledFrame:
        """The same frame once more, everything computed."""
        dense = replace(frame, draft=draft, pruning=None)
        dense.plan = self.planner.whole(dense)
        if dense.policy is not None and dense.policy.bounded:
            dense.probe = self.probe(dense)
        return dense

    def _audit_due(self, frame: ScheduledFrame, session: SessionState, state: ReuseState) -> bool:
        """Whether a delta frame is to be a keyframe, so that the two can be compared: drift is not known any more.

        At an age drawn anew for each audit, so that the drift that is measured is that of delta frames of all ages.
        """
        if frame.keyframe is not None or frame.policy is None or not frame.policy.bounded:
            return False
        if not session.blind or not self.audits.allows:
            return False
        drawn = GOLDEN * (session.audits + 1) % 1
        return state.since_dense >= int(drawn * (frame.interval(session.caution.level) - 1))

    def _replace_by_keyframe(self, frame: ScheduledFrame) -> None:
        """Compute a delta frame whole, and keep its plan."""
        frame.replaced, frame.plan = frame.plan, self.planner.whole(frame)
        frame.keyframe, frame.probe = KeyframeReason.AGE, self.probe(frame)

    def probe(self, frame: ScheduledFrame) -> RelevanceProbe | None:
        """A probe of what matters while this frame is computed; None where no plan asks."""
        if frame.policy is None or not frame.policy.needs_relevance:
            return None
        layout, layers = frame.prepared.layout, frame.policy.relevance_layers
        entropies = frame.policy.schedule.needs_entropies
        if frame.policy.relevance == "expert":
            of = self._decoder.config.num_hidden_layers
            return ExpertAttentionProbe(layout, layers, of=of, every_layer=entropies)
        return TextAttentionProbe(self._decoder, layout, layers, every_layer=entropies)


def _check_relevance(model: PolicyModel, settings: ReuseSettings) -> None:
    """Refuse to ask an action expert where there is none."""
    for section, source in (("adaptive", settings.adaptive.relevance), ("paper", settings.paper.relevance)):
        if source == "expert" and not model.has_expert:
            raise ConfigError(
                f"reuse.{section}.relevance is 'expert', and {model.info.name}, of family {model.info.family}, has no "
                "action expert that attends to the prompt; leave it out: the text's attention is taken"
            )
