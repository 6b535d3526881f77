"""SessionCache: what outlives a frame: sessions, their KV slots, and what commit, refresh and eviction make of them.

Knows sessions and the KV pool; plans nothing and computes no layer. For the engine's thread, but for `usage`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace

from torch import Tensor

from stillframe.domain import PRUNING_MODES, CacheReport, KeyframeReason, KVUsage, SessionRef
from stillframe.engine.action_check import ActionCheck
from stillframe.engine.history import FinishedFrame, HistoryManager
from stillframe.engine.kv_slots import DEFAULT_SESSIONS, SlotAllocator, budget_bytes, slot_shape
from stillframe.engine.requests import FrameRequest
from stillframe.engine.session_state import Audit, ScheduledFrame, SessionState, VisionCache
from stillframe.engine.session_table import SessionTable
from stillframe.engine.vision import VisionStage
from stillframe.errors import Internal, not_finite
from stillframe.models.base import Decoded, PolicyModel, Prepared, sampled_chunk
from stillframe.models.runner import ModelRunner
from stillframe.reuse.kv import FrameKV
from stillframe.reuse.plan import ReusePlan
from stillframe.reuse.settings import ReuseSettings
from stillframe.stopwatch import Clock


class SessionCache:
    """One model's sessions and their KV."""

    def __init__(
        self,
        model: PolicyModel,
        settings: ReuseSettings,
        clock: Clock,
        default_sessions: int = DEFAULT_SESSIONS,
        history: HistoryManager | None = None,
    ):
        """Allocate the pool: without a budget in the settings, for `default_sessions`.

        With `history`, each answered frame joins its session's older ones.
        Raises ConfigError for a budget that does not fit the checkpoint or the device.
        """
        self.sessions = SessionTable(settings.drift_budget, on_remove=self._release)
        self.vision = VisionStage(model, settings)
        shape = slot_shape(model, settings)
        self.slots = SlotAllocator(shape, budget_bytes(settings, shape, default_sessions), self._evict)
        self._settings = settings
        self._clock = clock
        self._history = history
        self._actions = ActionCheck(model.info)
        self._decoder = model.decoder
        self._busy: set[str] = set()  # sessions whose frames are being computed
        self.audit: Audit | None = None  # of the last batch, until the spare slot, where its KV lies, is used
        self.last_plan: ReusePlan | None = None  # for inspection, as the next two
        self.last_pruned: tuple[int, ...] = ()  # how many rows each layer left out without reusing any
        self.last_left: Tensor | None = None  # positions that the last layer had; None: all
        self.reports_patches = False  # whether a report says which patches were reused; a GPU is waited for to know

    @property
    def usage(self) -> KVUsage:
        """How full the pool is, and what lies beside it. Any thread.

        No slots in a mode that keeps nothing: they wait for sessions that ask for another.
        """
        slots = 0 if self._settings.mode in ("off", *PRUNING_MODES) else self.slots.slots
        histories = [own.history for own in self.sessions.histories]
        return KVUsage(
            self.slots.in_use_bytes,
            self.slots.budget_bytes,
            self.sessions.holding,
            slots,
            history_chunks=sum(history.held for history in histories),
            history_bytes=sum(history.nbytes for history in histories),
        )

    @property
    def next_refresh(self) -> SessionState | None:
        """The session that an idle device refreshes next; None where there is none, or the settings want none."""
        if self._settings.slack == "auto":
            return self.sessions.pending(lambda session: session.refresh_due)
        return self.sessions.pending() if self._settings.slack else None

    def take_audit(self) -> Audit | None:
        """What is to be computed beside the last batch's keyframe, once."""
        audit, self.audit = self.audit, None
        return audit

    @contextmanager
    def batch(self, requests: Sequence[FrameRequest]) -> Iterator[list[SessionState | None]]:
        """The sessions of a batch; None for a stateless frame. Meanwhile none of them is evicted.

        Afterwards, however it went, KV that was allocated and not committed is free again.
        """
        self.audit = None
        try:
            sessions = [self.sessions.at(request.session) if request.session else None for request in requests]
            self._busy.update(session.ref.id for session in sessions if session is not None)
            yield sessions
        finally:
            self.slots.release_uncommitted()
            self._busy.clear()

    def embed_batch(
        self, runner: ModelRunner, sessions: Sequence[SessionState | None], prepared: Sequence[Prepared]
    ) -> list[Tensor]:
        """Each prompt's rows [prompt_rows, width]; see `VisionStage.embed`."""
        return self.vision.embed(runner, sessions, prepared)

    def look_again(self, runner: ModelRunner, frames: Sequence[ScheduledFrame]) -> None:
        """Hand each frame what is to be kept of its pictures, those of keyframes computed whole."""
        for frame in frames:
            if frame.session is not None:
                frame.looked, frame.session.looked = frame.session.looked, {}
        self.vision.look_whole(runner, [frame for frame in frames if frame.keyframe is not None])

    def open(self, frames: Sequence[ScheduledFrame]) -> None:
        """Give each frame the KV that its pass fills.

        From here until `commit`, a session's slot may hold half a frame: if the pass fails, its next is a keyframe.
        """
        for frame in frames:
            if frame.session is None or not self._open_slot(frame, frame.session):
                frame.is_cached, frame.probe = False, None
                frame.kv = self.slots.scratch(frame.total_rows, reserve=len(self._busy))

    def commit(
        self, frames: Sequence[ScheduledFrame], decoded: Sequence[Decoded], finite: Sequence[bool]
    ) -> list[CacheReport | Internal]:
        """Check each answer; of an action keep what its frame leaves, and say what that reused.

        `finite`: whether a frame's hidden rows are. Of an answer that is refused nothing is kept or learnt from.
        """
        if len(frames) > 1 and not self._decoder.batch_invariant:
            decoded = [replace(own, bit_equal=False) for own in decoded]
        results = [
            self.refusal(frame, own, finite=fine) or self._commit(frame, own)
            for frame, own, fine in zip(frames, decoded, finite, strict=True)
        ]
        if self._history is not None:
            self._update_history(self._history, frames)
        return results

    def refusal(self, frame: ScheduledFrame, decoded: Decoded, *, finite: bool) -> Internal | None:
        """Why an answer is no action; None: it is one. `finite`: whether its hidden rows are."""
        return self._actions.refusal(frame.prepared, decoded, frame.draft.faults) if finite else not_finite()

    def refresh(self, session: SessionState, dense: ScheduledFrame) -> None:
        """After a dense pass of the session's last frame into the spare slot: swap it for the session's own."""
        if session.reuse is not None:
            relevance = dense.probe.relevance(dense.kv) if dense.probe else None
            attended = dense.attended(relevance)
            self.slots.swap_spare(session.reuse.refreshed(dense.kv, dense.tokens, attended))
        if session.vision is not None:
            session.vision = replace(session.vision, rows=dense.rows, kept=dense.looked)

    def drop_kv(self, session: SessionState, cause: KeyframeReason) -> None:
        """Free a session's slot; its next frame is a keyframe because of `cause`."""
        self._release(session)
        session.cause = cause

    def invalidate(self, ref: SessionRef) -> None:
        """Force the session's next frame to be a keyframe after an unexpected error."""
        session = self.sessions.known(ref.id)
        if session is not None and session.ref.serial == ref.serial:
            session.cause = session.cause or KeyframeReason.INTEGRITY

    def end(self, session_id: str) -> None:
        """A session has ended: free all that it left."""
        self.sessions.remove(session_id)

    def _open_slot(self, frame: ScheduledFrame, session: SessionState) -> bool:
        """A session's own slot for its frame; False where the frame is not to be cached, or every slot is taken."""
        if not frame.is_cached:
            self.drop_kv(session, KeyframeReason.MODE if frame.policy is None else KeyframeReason.INSTRUCTION)
            return False
        kv = self._slot_beside(frame) or (session.reuse.kv if session.reuse else self.slots.acquire())
        if kv is None:  # every slot belongs to a session of this batch
            session.cause = KeyframeReason.EVICTED
            return False
        frame.kv = kv
        session.pending, session.cause = None, KeyframeReason.INTEGRITY
        return True

    def _slot_beside(self, frame: ScheduledFrame) -> FrameKV | None:
        """Of a keyframe that is to be audited the spare slot: the session's own keeps what its delta is computed from.

        Where another frame of the batch has it, this one is a delta after all.
        """
        if frame.replaced is None:
            return None
        kv = self.slots.take_spare()
        if kv is None:
            frame.plan, frame.keyframe, frame.probe, frame.replaced = frame.replaced, None, None, None
        return kv

    def _commit(self, frame: ScheduledFrame, decoded: Decoded) -> CacheReport:
        frame.decoded = decoded
        self.last_plan, self.last_pruned, self.last_left = frame.plan, frame.pruned_rows, frame.left_rows
        report = CacheReport(
            mode=frame.mode,
            keyframe_reason=frame.keyframe,
            reuse_ratio=frame.plan.reuse_ratio,
            reused_tokens=frame.plan.counts[-1],
            total_tokens=frame.plan.rows,
            kv_bytes=0,
            age_max=0,
            relaxed=frame.draft.mode == "relaxed",
            patches=frame.reused_patches if self.reports_patches else None,
            bit_equal=decoded.bit_equal,
            pruned_ratio=frame.pruned_ratio,
        )
        return report if frame.session is None else self._commit_session(frame, frame.session, decoded, report)

    def _commit_session(
        self, frame: ScheduledFrame, session: SessionState, decoded: Decoded, report: CacheReport
    ) -> CacheReport:
        session.drafts.observe(decoded.chunk.tokens)
        if decoded.sampled is not None:
            session.chunks.keep(session.ref.seq, sampled_chunk(frame.prepared, decoded.sampled))
        session.vision = VisionCache.of(frame.prepared, frame.rows, frame.looked if frame.is_cached else {})
        last_drift, session.last_drift = session.last_drift, None
        beside_ms, session.beside_ms = session.beside_ms, 0.0
        report = replace(
            report, epoch=session.ref.epoch, seq=session.ref.seq, last_drift=last_drift, beside_ms=beside_ms
        )
        if frame.keyframe is None:
            attended = session.reuse.task_relevance if session.reuse else None
            relevant, caution = attended.count if attended else 0, session.caution.level
            report = replace(report, relevant_tokens=relevant, caution=caution)
        if frame.pruning is not None:  # memory beside the pool is not held until it is measured
            session.pending, frame.kv = frame, self.slots.spare
        if frame.policy is None or not frame.is_cached:
            return report
        before = session.reuse
        session.reuse, age_max = frame.reuse_state(before, self._clock())
        self.slots.commit(frame.kv)
        session.unmeasured += frame.keyframe is None and frame.policy.measured
        if frame.replaced is not None and before is not None:
            self._keep_audit(session, frame, frame.replaced, decoded, before.kv)
        session.cause, session.pending = None, frame if frame.policy.measured else None
        return replace(report, kv_bytes=frame.kv.nbytes + session.vision.nbytes, age_max=age_max)

    def _keep_audit(
        self, session: SessionState, frame: ScheduledFrame, plan: ReusePlan, answer: Decoded, before: FrameKV
    ) -> None:
        """The slot that a keyframe took is its session's; the one `before` is spare, and its audit may use it."""
        delta = replace(frame)
        delta.plan, delta.kv = plan, before
        self.slots.swap_spare(before)
        session.audits += 1
        self.audit = Audit(session, delta, answer, share=1 - 1 / frame.interval(session.caution.level))

    def _update_history(self, manager: HistoryManager, frames: Sequence[ScheduledFrame]) -> None:
        """Each answered frame joins its session's older ones."""
        histories = [frame.session.history if frame.session else None for frame in frames]
        finished = [
            FinishedFrame(own, frame.prepared.layout, frame.kv, frame.decoded)
            for own, frame in zip(histories, frames, strict=True)
            if own is not None and frame.decoded is not None
        ]
        manager.update(finished)
        for own, frame in zip(histories, frames, strict=True):
            frame.history_report = None if own is None else own.report

    def _release(self, session: SessionState) -> None:
        if session.reuse is not None:
            self.slots.release(session.reuse.kv)
        session.reuse, session.pending, session.vision = None, None, None

    def _evict(self) -> bool:
        """Free the slot of the session that was idle longest; of none whose frame is being computed."""
        idle = self.sessions.longest_idle(but=self._busy)
        if idle is not None:
            self.drop_kv(idle, KeyframeReason.EVICTED)
        return idle is not None
