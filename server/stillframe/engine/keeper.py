"""Keeper: plans each frame with what its session left, lends it storage, and keeps what it leaves in turn.

Knows sessions and the KV pool; computes no layer. The only room in which anything outlives a frame. For the engine's
thread, but for `usage` and the sessions' episodes.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from torch import Tensor

from stillframe.domain import CacheReport, KeyframeReason, KVUsage, Observation, ReuseMode
from stillframe.engine.planner import Frame, Planner
from stillframe.engine.sessions import Episode, Session, Sessions
from stillframe.errors import ConfigError
from stillframe.models.base import Decoded, PolicyModel, Prepared
from stillframe.models.texttap import TextTap
from stillframe.reuse.kv import MIB, FrameKV, KVPool, KVShape
from stillframe.reuse.plan import ReusePlan
from stillframe.reuse.remembered import Remembered
from stillframe.reuse.selection import Attended
from stillframe.reuse.settings import ReuseSettings
from stillframe.stopwatch import Clock

DEFAULT_SESSIONS = 16  # that the pool has room for where the configuration names no bytes


@dataclass(frozen=True)
class Asked:
    """One frame as it comes from the queue."""

    observation: Observation
    episode: Episode | None = None  # None: stateless
    mode: ReuseMode | None = None  # None: as configured


@dataclass
class Turn:
    """One frame, its plan, and where its keys and values go."""

    frame: Frame
    session: Session[Turn] | None
    plan: ReusePlan
    keyframe: KeyframeReason | None
    kv: FrameKV
    tap: TextTap | None
    decoded: Decoded | None = None  # the answer, once there is one


class Keeper:
    """One model's sessions and their storage."""

    def __init__(self, model: PolicyModel, settings: ReuseSettings, clock: Clock):
        """Take the pool's memory. Raises ConfigError for knobs or a budget that do not fit the checkpoint."""
        self.settings = settings
        self.sessions: Sessions[Turn] = Sessions(settings.max_sessions, settings.drift_budget)
        self._decoder = model.decoder
        self._clock = clock
        self._planner = Planner(settings, model.decoder.config.num_hidden_layers)
        shape = kv_shape(model, settings.slot_text_tokens)
        self._pool = KVPool(shape, _budget_bytes(settings, shape))
        self.last_plan: ReusePlan | None = None  # for whoever wants to look at it
        self.spare = self._lend()  # for what is not remembered, and for dense passes beside a session's own slot

    @property
    def usage(self) -> KVUsage:
        """How full the pool is. Any thread."""
        slot = self._pool.shape.nbytes  # the spare one is nobody's
        return KVUsage(self._pool.in_use_bytes - slot, self._pool.budget_bytes - slot, self.sessions.holding)

    def plan(self, asked: Asked, prepared: Prepared, rows: Tensor) -> Turn:
        """Decide which of the prompt's rows [prompt_rows, width] are computed, and where their KV goes.

        From here until `keep`, the session's slot may hold half a frame: if the pass fails, its next frame is whole.
        """
        session = self.sessions.at(asked.episode) if asked.episode else None
        for surplus in self.sessions.surplus():
            self.forget(surplus, KeyframeReason.EVICTED)
        mode = (asked.mode or self.settings.mode) if session else "off"
        frame = self._planner.frame(asked.observation, prepared, rows, mode, self._clock())
        if session is None:
            return Turn(frame, None, self._planner.whole(frame), KeyframeReason.STATELESS, self._room(frame), None)
        self.catch_up(session)
        cause = session.cause if self._fits(frame) else KeyframeReason.TOO_LONG
        plan, keyframe = self._planner.plan(frame, session.remembered, cause, session.caution.level)
        if frame.recipe is None or not self._fits(frame):
            self.forget(session, KeyframeReason.MODE if frame.recipe is None else KeyframeReason.INSTRUCTION)
            return Turn(frame, session, plan, keyframe, self._room(frame), None)
        kv = session.remembered.kv if session.remembered and keyframe is None else self.spare
        session.pending, session.cause = None, KeyframeReason.INTEGRITY
        listens = keyframe is not None or frame.recipe.published  # relevance out of dense passes, but as published
        return Turn(frame, session, plan, keyframe, kv, self.tap(frame) if listens else None)

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
        )
        return report if turn.session is None else self._kept(turn, turn.session, report)

    def catch_up(self, session: Session[Turn]) -> None:
        """Find out where the last pass's text looked, if that is still to be done: a pause may have done it."""
        turn = session.pending
        if turn is not None and turn.tap is not None and session.remembered is not None:
            session.remembered.attended = self._attended(turn.frame, turn.tap, session.remembered.kv)
            turn.tap = None

    def refresh(self, session: Session[Turn], turn: Turn, tap: TextTap | None) -> None:
        """After a dense pass of the session's last frame into `spare`: that is the session's now, its old one spare."""
        if session.remembered is not None:
            attended = self._attended(turn.frame, tap, self.spare)
            self.spare = session.remembered.refreshed(self.spare, turn.frame.tokens, attended)

    def forget(self, session: Session[Turn], cause: KeyframeReason) -> None:
        """Take a session's storage away; its next frame is a keyframe because of `cause`."""
        if session.remembered is not None:
            self._pool.release(session.remembered.kv)
        session.remembered, session.pending, session.cause = None, None, cause

    def _kept(self, turn: Turn, session: Session[Turn], report: CacheReport) -> CacheReport:
        frame, report = turn.frame, replace(report, epoch=session.episode.epoch, seq=session.seq)
        if frame.recipe is None or not self._fits(frame):
            return report
        age_max = 0
        if turn.keyframe is None and session.remembered is not None:
            published = frame.recipe.published
            age_max = session.remembered.advance(turn.plan, frame.tokens, self._clock(), published=published)
        else:
            before = session.remembered
            session.remembered = Remembered.fresh(turn.kv, frame.same, frame.tokens, self._clock())
            self.spare = before.kv if before else self._lend()
        session.cause, session.pending = None, turn if frame.recipe.measured else None
        return replace(report, kv_bytes=turn.kv.nbytes, age_max=age_max)

    def tap(self, frame: Frame) -> TextTap | None:
        """Listen where the text looks in a pass of this frame; None where no plan asks."""
        if frame.recipe is None or not frame.recipe.needs_relevance:
            return None
        chosen, entropies = frame.recipe.relevance_layers, frame.recipe.schedule.needs_entropies
        return TextTap(self._decoder, frame.prepared.layout, chosen, every_layer=entropies)

    def _attended(self, frame: Frame, tap: TextTap | None, kv: FrameKV) -> Attended | None:
        if frame.recipe is None or tap is None:
            return None
        return Attended.by(tap.relevance(kv), frame.prepared.layout.cameras, frame.recipe)

    def _fits(self, frame: Frame) -> bool:
        return frame.prepared.layout.total_rows <= self._pool.shape.capacity

    def _room(self, frame: Frame) -> FrameKV:
        """Storage for a frame that nobody remembers: the spare slot, or its own where it is too long for that."""
        if self._fits(frame):
            return self.spare
        return FrameKV(replace(self._pool.shape, capacity=frame.prepared.layout.total_rows).allocate())

    def _lend(self) -> FrameKV:
        """A slot; the session that was idle longest loses its own if there is none."""
        while (kv := self._pool.acquire()) is None:
            idle = self.sessions.longest_idle()
            if idle is None:
                raise RuntimeError("every slot of the KV pool is held, and no session holds one")
            self.forget(idle, KeyframeReason.EVICTED)
        return kv


def kv_shape(model: PolicyModel, text_tokens: int) -> KVShape:
    """What a session of this model takes, prompts of up to `text_tokens` provided."""
    config = model.decoder.config
    return KVShape(
        layers=config.num_hidden_layers,
        kv_heads=config.num_key_value_heads,
        head_dim=config.head_dim,
        capacity=model.fixed_rows + text_tokens,
        dtype=model.dtype,
        device=model.device,
    )


def _budget_bytes(settings: ReuseSettings, shape: KVShape) -> int:
    """As configured; by default room for a few sessions and the spare slot."""
    if settings.kv_budget_mib is None:
        return (DEFAULT_SESSIONS + 1) * shape.nbytes
    budget_bytes = int(settings.kv_budget_mib * MIB)
    if budget_bytes < 2 * shape.nbytes:
        raise ConfigError(
            f"reuse.kv_budget_mib is {settings.kv_budget_mib:g}; this checkpoint needs at least "
            f"{2 * shape.nbytes / MIB:.1f} MiB: a slot for one session and a spare one"
        )
    return budget_bytes
