"""Keeper: plans each frame with what its session left, lends it storage, and keeps what it leaves in turn.

Knows sessions and the KV pool; computes no layer. The only room in which anything outlives a frame. For the engine's
thread, but for `usage`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from torch import Tensor

from stillframe.domain import CacheReport, HistoryReport, KeyframeReason, KVUsage, Observation, SessionRef
from stillframe.engine.action_check import Bounds
from stillframe.engine.drafts import Drafting
from stillframe.engine.history import Left, Recalling
from stillframe.engine.kv_slots import Storage, budget_bytes, kv_shape
from stillframe.engine.planner import Frame, Planner
from stillframe.engine.session_state import Seen, Session, Sessions
from stillframe.errors import Internal, not_finite
from stillframe.models.base import Decoded, PolicyModel, Prefilled, Prepared
from stillframe.models.llama.attention_probe import TextAttentionProbe
from stillframe.models.llama.decoder import Decoder
from stillframe.models.llama.draft import Draft
from stillframe.models.llama.history_attention import HistoryKV
from stillframe.models.llama.sequence import SequenceSlice, prompt_slice
from stillframe.models.runner import ModelRunner
from stillframe.reuse.kv import FrameKV
from stillframe.reuse.plan import ReusePlan
from stillframe.reuse.settings import DRAFTS_CHECKED, DecodingSettings, ReuseSettings
from stillframe.reuse.state import Remembered
from stillframe.stopwatch import Clock

DEFAULT_SESSIONS = 16  # that the pool has room for where the configuration names no bytes


@dataclass(frozen=True)
class Asked:
    """One frame as it comes from the line."""

    observation: Observation
    session: SessionRef | None = None  # None: stateless
    queued_ms: float = 0.0  # until the device turned to it
    preparing: Callable[[], Prepared] | None = None  # what becomes of it meanwhile; None: it is still to be prepared

    def prepared(self, model: PolicyModel) -> Prepared:
        """Ready for the towers. Raises Unprocessable."""
        return model.prepare(self.observation) if self.preparing is None else self.preparing()


@dataclass
class Turn:
    """One frame, its plan, and where its keys and values go."""

    frame: Frame
    session: Session[Turn] | None
    plan: ReusePlan
    keyframe: KeyframeReason | None
    kv: FrameKV
    tap: TextAttentionProbe | None
    draft: Draft
    history: HistoryKV | None = None  # the session's older frames
    past: HistoryReport | None = None  # what is held of them afterwards
    remembers: bool = False  # whether what it leaves stays with its session
    decoded: Decoded | None = None  # the answer, once there is one

    def prompt(self, decoder: Decoder) -> SequenceSlice:
        """What the prefill is to do."""
        input_ids = self.draft.input_ids
        read = 1 + len(input_ids)
        return prompt_slice(decoder, self.frame.rows, self.plan, self.kv, self.tap, input_ids, read, self.history)

    def prefilled(self, hidden: Tensor) -> Prefilled:
        """What the prefill has done."""
        if self.history is not None:
            self.history = self.history.without_hook()  # what it looked at is known
        return Prefilled(self.frame.prepared, hidden, self.kv, self.draft, self.history)


class Keeper:
    """One model's sessions and their storage."""

    def __init__(
        self,
        model: PolicyModel,
        settings: ReuseSettings,
        clock: Clock,
        default_sessions: int = DEFAULT_SESSIONS,
        decoding: DecodingSettings = DRAFTS_CHECKED,
        recalling: Recalling | None = None,
    ):
        """Take the pool's memory: where the settings name no budget, for `default_sessions`.

        With `recalling`, sessions' answers look at older frames.
        Raises ConfigError for knobs or a budget that do not fit the checkpoint or the device.
        """
        self.settings = settings
        self.sessions: Sessions[Turn] = Sessions(settings.drift_budget, part=self._release)
        self._decoder = model.decoder
        self._clock = clock
        self._planner = Planner(settings, model.decoder.config.num_hidden_layers)
        self._recalling = recalling
        self._bounds = Bounds(model.info)
        self._drafting = Drafting(decoding, model.info.action_names, model.decoder.config.vocab_size)
        shape = kv_shape(model, settings.slot_text_tokens)
        self.storage = Storage(shape, budget_bytes(settings, shape, default_sessions), self._evict)
        self._busy: set[str] = set()  # sessions whose frames are being computed
        self.last_plan: ReusePlan | None = None  # for whoever wants to look at it

    @property
    def usage(self) -> KVUsage:
        """How full the pool is, and what lies beside it. Any thread.

        No slots in mode off: they wait for sessions that ask for another.
        """
        slots = 0 if self.settings.mode == "off" else self.storage.slots
        histories = [past.history for past in self.sessions.pasts]
        return KVUsage(
            self.storage.in_use_bytes,
            self.storage.budget_bytes,
            self.sessions.holding,
            slots,
            history_chunks=sum(history.held for history in histories),
            history_bytes=sum(history.nbytes for history in histories),
        )

    def embedded(self, runner: ModelRunner, batch: Sequence[tuple[Asked, Prepared]]) -> list[Tensor]:
        """Each prompt's rows [prompt_rows, width]. A picture that is its session's last to the bit is not looked at."""
        sessions = [self.sessions.at(asked.session) if asked.session else None for asked, _ in batch]
        self._busy.update(session.ref.id for session in sessions if session is not None)
        rows = [
            None if session is None else session.recognised(own)
            for session, (_, own) in zip(sessions, batch, strict=True)
        ]
        unseen = [own for (_, own), known in zip(batch, rows, strict=True) if known is None]
        fresh = iter(runner.embed(unseen) if unseen else ())
        return [next(fresh) if known is None else known for known in rows]

    def plan(self, asked: Asked, prepared: Prepared, rows: Tensor) -> Turn:
        """Decide which of the prompt's rows [prompt_rows, width] are computed, and where their KV goes.

        From here until `keep`, the session's slot may hold half a frame: if the pass fails, its next frame is whole.
        """
        session = self.sessions.at(asked.session) if asked.session else None
        mode = (session.ref.mode or self.settings.mode) if session else "off"
        frame = self._planner.frame(asked.observation, prepared, rows, mode, self._clock())
        draft = self._drafting.draft(session.drafts if session else None, prepared.no_motion_tokens).among(
            prepared.actions
        )
        if session is None:
            return self._forgotten(frame, None, KeyframeReason.STATELESS, draft)
        turn = self._planned(frame, session, draft)
        if self._recalling is not None:
            session.past = session.past or self._recalling.begin()
            turn.history = self._recalling.recall(session.past, prepared.layout)
        return turn

    def _planned(self, frame: Frame, session: Session[Turn], draft: Draft) -> Turn:
        """Of a session's frame."""
        self.catch_up(session)
        fits = self.storage.fits(frame.total_rows)
        cause = session.cause if fits else KeyframeReason.TOO_LONG
        plan, keyframe = self._planner.plan(frame, session.remembered, cause, session.caution.level)
        if frame.recipe is None or not fits:
            self.strip(session, KeyframeReason.MODE if frame.recipe is None else KeyframeReason.INSTRUCTION)
            return self._forgotten(frame, session, keyframe, draft)
        kv = session.remembered.kv if session.remembered else self.storage.slot()
        if kv is None:  # all slots belong to robots whose frames are computed beside this one
            session.cause = KeyframeReason.EVICTED
            return self._forgotten(frame, session, keyframe, draft)
        session.pending, session.cause = None, KeyframeReason.INTEGRITY
        listens = keyframe is not None or frame.recipe.published  # relevance out of dense passes, but as published
        tap = self.tap(frame) if listens else None
        return Turn(frame, session, plan, keyframe, kv, tap, draft, remembers=True)

    def take_in(self, turns: Sequence[Turn]) -> None:
        """Frames are over: of each that has an answer, its session has one more older frame."""
        if self._recalling is None:
            return
        pasts = [turn.session.past if turn.session else None for turn in turns]
        left = [
            Left(past, turn.frame.prepared.layout, turn.kv, turn.decoded)
            for past, turn in zip(pasts, turns, strict=True)
            if past is not None and turn.decoded is not None
        ]
        self._recalling.take_in(left)
        for past, turn in zip(pasts, turns, strict=True):
            turn.past = None if past is None else past.report

    def judge(self, turn: Turn, decoded: Decoded, *, finite: bool) -> CacheReport | Internal:
        """The gate between the model and all that follows: only an action is kept, learnt from and answered."""
        return self.refusal(turn, decoded, finite=finite) or self.keep(turn, decoded)

    def refusal(self, turn: Turn, decoded: Decoded, *, finite: bool) -> Internal | None:
        """Why an answer is none; None: it is an action. `finite`: whether its hidden rows are.

        Of one that is refused nothing is kept: its session's KV counts for nothing, as `plan` left it, and the next
        frame is whole.
        """
        return self._bounds.refusal(turn.frame.prepared, decoded, turn.draft.faults) if finite else not_finite()

    def keep(self, turn: Turn, decoded: Decoded) -> CacheReport:
        """Remember what the frame leaves, and say what it reused."""
        turn.decoded, self.last_plan = decoded, turn.plan
        report = CacheReport(
            mode=turn.frame.mode,
            keyframe_reason=turn.keyframe,
            reuse_ratio=turn.plan.reuse_ratio,
            reused_tokens=turn.plan.counts[-1],
            total_tokens=turn.plan.rows,
            kv_bytes=0,
            age_max=0,
            relaxed=turn.draft.mode == "relaxed",
        )
        return report if turn.session is None else self._kept(turn, turn.session, decoded, report)

    def put_away(self) -> None:
        """A step is over, however it went: what was lent for it and is not kept is free again."""
        self.storage.put_away()
        self._busy.clear()

    def catch_up(self, session: Session[Turn]) -> None:
        """Find out where the last pass's text looked, if that is still to be done: a pause may have done it."""
        turn = session.pending
        if turn is not None and turn.tap is not None and session.remembered is not None:
            session.remembered.attended = turn.frame.attended(turn.tap.relevance(session.remembered.kv))
            turn.tap = None

    def refresh(self, session: Session[Turn], turn: Turn, tap: TextAttentionProbe | None) -> None:
        """After a dense pass of the session's last frame into the spare slot: exchange it for the session's own."""
        if session.remembered is not None:
            fresh = self.storage.spare
            attended = turn.frame.attended(tap.relevance(fresh) if tap else None)
            self.storage.exchange_spare(session.remembered.refreshed(fresh, turn.frame.tokens, attended))

    def strip(self, session: Session[Turn], cause: KeyframeReason) -> None:
        """Take a session's storage away; its next frame is a keyframe because of `cause`."""
        self._release(session)
        session.cause = cause

    def doubt(self, ref: SessionRef) -> None:
        """A frame failed in a way that nobody foresaw: whatever its session holds, its next frame is whole."""
        session = self.sessions.known(ref.id)
        if session is not None and session.ref.serial == ref.serial:
            session.cause = session.cause or KeyframeReason.INTEGRITY

    def forget(self, session_id: str) -> None:
        """A session is over: free all that it left."""
        self.sessions.forget(session_id)

    def _release(self, session: Session[Turn]) -> None:
        if session.remembered is not None:
            self.storage.release(session.remembered.kv)
        session.remembered, session.pending, session.seen = None, None, None

    def _kept(self, turn: Turn, session: Session[Turn], decoded: Decoded, report: CacheReport) -> CacheReport:
        session.drafts.saw(decoded.chunk.tokens)
        session.seen = Seen.of(turn.frame.prepared, turn.frame.rows)
        frame, report = turn.frame, replace(report, epoch=session.ref.epoch, seq=session.ref.seq)
        if frame.recipe is None or not turn.remembers:
            return report
        age_max = 0
        if turn.keyframe is None and session.remembered is not None:
            published = frame.recipe.published
            age_max = session.remembered.advance(turn.plan, frame.tokens, self._clock(), published=published)
        else:
            session.remembered = Remembered.fresh(turn.kv, frame.same, frame.tokens, self._clock())
            self.storage.keep(turn.kv)
        session.cause, session.pending = None, turn if frame.recipe.measured else None
        return replace(report, kv_bytes=turn.kv.nbytes, age_max=age_max)

    def _forgotten(
        self, frame: Frame, session: Session[Turn] | None, keyframe: KeyframeReason | None, draft: Draft
    ) -> Turn:
        """A frame that is computed whole, and whose keys and values nobody keeps."""
        kv = self.storage.room(frame.total_rows, leave=len(self._busy))
        return Turn(frame, session, self._planner.whole(frame), keyframe, kv, None, draft)

    def tap(self, frame: Frame) -> TextAttentionProbe | None:
        """Listen where the text looks in a pass of this frame; None where no plan asks."""
        if frame.recipe is None or not frame.recipe.needs_relevance:
            return None
        chosen, entropies = frame.recipe.relevance_layers, frame.recipe.schedule.needs_entropies
        return TextAttentionProbe(self._decoder, frame.prepared.layout, chosen, every_layer=entropies)

    def _evict(self) -> bool:
        """Take the storage of the session that was idle longest; of none whose frame is being computed."""
        idle = self.sessions.longest_idle(but=self._busy)
        if idle is not None:
            self.strip(idle, KeyframeReason.EVICTED)
        return idle is not None
