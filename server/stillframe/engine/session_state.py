"""ScheduledFrame and SessionState: a frame with its plan and its KV, and what a session's last one left.

Knows what each holds; decides nothing. For the engine's thread.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from torch import Tensor

from stillframe.domain import HistoryReport, Image, KeyframeReason, ReusedPatches, ReuseMode, RtcReport, SessionRef
from stillframe.engine.drafts import DraftProposer
from stillframe.engine.drift import BLIND_ANSWERS, Caution
from stillframe.engine.ensemble import AdaptiveEnsemble
from stillframe.engine.history import SessionHistory
from stillframe.engine.kept_picture import KeptPicture
from stillframe.engine.sent_chunks import SentChunks
from stillframe.models.base import Decoded, Prefilled, Prepared, RelevanceProbe
from stillframe.models.held_chunk import HeldChunk
from stillframe.models.llama.decoder import Decoder
from stillframe.models.llama.draft import Draft
from stillframe.models.llama.history_attention import HistoryKV
from stillframe.models.llama.pruning import PromptPruning
from stillframe.models.llama.sequence import SequenceSlice, prompt_slice
from stillframe.reuse.kv import FrameKV
from stillframe.reuse.masks import nearness
from stillframe.reuse.plan import ReusePlan
from stillframe.reuse.policies import ReusePolicy
from stillframe.reuse.pruning import Method
from stillframe.reuse.relevance import Relevance
from stillframe.reuse.selection import TaskRelevance
from stillframe.reuse.similarity import PatchTokens
from stillframe.reuse.state import ReuseState

NOTHING_KEPT: Mapping[str, KeptPicture] = {}


@dataclass(eq=False)
class ScheduledFrame:
    """One frame on the device, from its plan to its action. `dataclasses.replace` gives one that is not planned yet."""

    prepared: Prepared
    rows: Tensor  # [prompt_rows, width]: what enters the decoder
    tokens: PatchTokens
    mode: ReuseMode
    policy: ReusePolicy | None  # None: the mode reuses nothing
    must_match: Mapping[KeyframeReason, object]  # what the next frame has to share with this one, or be a keyframe
    now_s: float
    draft: Draft
    pruning: Method | None = None  # what leaves out some of its own rows; None: its mode does not prune
    masked: Tensor | None = None  # bool [patch tokens]: that a mask touches, on the host; None: its mode asks none
    seed: int = 0  # of what is drawn by chance; a stateless frame's is 0
    session: SessionState | None = None  # None: stateless
    history: HistoryKV | None = None  # the session's older frames
    held: HeldChunk | None = None  # what its chunk goes on with
    rtc_report: RtcReport | None = None  # what is said of that; None: the frame did not ask
    looked: Mapping[str, KeptPicture] = field(default_factory=dict, repr=False)  # by camera, if renewed in part
    plan: ReusePlan = field(init=False, repr=False)  # by Scheduler, as the next three
    keyframe: KeyframeReason | None = field(init=False, default=None)
    probe: RelevanceProbe | None = field(init=False, default=None)  # of what matters in it, if a plan will ask
    is_cached: bool = field(init=False, default=False)  # whether its KV stays with its session
    kv: FrameKV = field(init=False, repr=False)  # by SessionCache, as the next two
    decoded: Decoded | None = field(init=False, default=None)  # the action, once there is one
    history_report: HistoryReport | None = field(init=False, default=None)  # what is held of older frames afterwards
    replaced: ReusePlan | None = field(init=False, default=None)  # of a keyframe: the delta plan that is to be audited

    @property
    def total_rows(self) -> int:
        """Positions of its prompt and its action."""
        return self.prepared.layout.total_rows

    @property
    def reused_patches(self) -> dict[str, ReusedPatches]:
        """Camera -> which of its patches its plan reuses. Waits for a GPU."""
        layout, reused = self.prepared.layout, self.plan.reused_patches.cpu().numpy()
        return {
            camera: ReusedPatches(
                layout.patch_grid,
                tuple(sorted((reused[(share.start <= reused) & (reused < share.stop)] - share.start).tolist())),
                self.prepared.padded_views,
            )
            for camera, share in zip(layout.patches, layout.cameras, strict=True)
        }

    def interval(self, caution: float) -> int:
        """Frames from one dense pass to the next, at that caution; 1 where its mode reuses nothing."""
        return 1 if self.policy is None else self.policy.tightened(caution).keyframe_every

    @property
    def can_drift(self) -> bool:
        """Whether its answer need not be a dense pass's."""
        return self.keyframe is None or self.pruning is not None

    @property
    def pruned_ratio(self) -> float:
        """Token-layers that its prefill, once run, left out without reusing any / token-layers of a keyframe."""
        return sum(self.pruned_rows) / (len(self.plan.counts) * self.plan.rows)

    @property
    def pruned_rows(self) -> tuple[int, ...]:
        """How many rows each layer of its prefill, once run, left out without reusing any."""
        return self.kv.pruned_rows(len(self.plan.counts))

    @property
    def left_rows(self) -> Tensor | None:
        """Positions that its prefill's last layer, once run, had; None: all of the prompt's."""
        return self.kv.visible(len(self.plan.counts) - 1)

    def attended(self, relevance: Relevance | None) -> TaskRelevance | None:
        """What its policy makes of where its text or its expert looked; None where that was not observed."""
        if self.policy is None or relevance is None:
            return None
        return TaskRelevance.of(relevance, self.prepared.layout.cameras, self.policy)

    def task_relevance(self, state: ReuseState) -> TaskRelevance | None:
        """What matters in it: what its own masks say, or what was attended to in the session's last dense pass."""
        if self.masked is None:
            return state.task_relevance
        layout = self.prepared.layout
        scores, device = nearness(self.masked, len(layout.cameras), layout.patch_grid), self.rows.device
        relevance = Relevance(scores.to(device), torch.zeros(0))
        return TaskRelevance(relevance, self.masked.to(device), int(self.masked.sum()))

    def prompt(self, decoder: Decoder) -> SequenceSlice:
        """The input of its prefill."""
        input_ids, layout = self.draft.input_ids, self.prepared.layout
        read = layout.answer_rows + len(input_ids)
        hook = self.probe.on_prompt if self.probe else None
        pruning = PromptPruning(self.pruning, layout) if self.pruning else None
        return prompt_slice(
            decoder, self.rows, self.plan, self.kv, hook, input_ids, read, self.history, layout.mask, pruning
        )

    def prefilled(self, hidden: Tensor) -> Prefilled:
        """The input of its decoding: `hidden` [rows, width] as the prefill returns them."""
        if self.history is not None:
            self.history = self.history.without_hook()  # the attention on it is recorded
        hook = self.probe.on_expert if self.probe else None
        return Prefilled(self.prepared, hidden, self.kv, self.draft, self.history, self.seed, self.held, hook)

    def reuse_state(self, state: ReuseState | None, now_s: float) -> tuple[ReuseState, int]:
        """What the session's next frame may reuse, and the greatest age in it: `state` advanced, or a new one."""
        if self.keyframe is None and state is not None and self.policy is not None:
            return state, state.advance(self.plan, self.tokens, now_s, published=self.policy.published)
        return ReuseState.fresh(self.kv, self.must_match, self.tokens, now_s), 0


@dataclass(frozen=True)
class VisionCache:
    """What a session's last frame showed and said of the robot, and its rows."""

    views: Mapping[str, Image]
    ids: Tensor  # of the text
    state: Tensor | None  # of the robot
    rows: Tensor  # [prompt_rows, width]
    patches: Mapping[str, range]  # camera -> its rows among them
    pixels: Tensor | None  # None: equal views have equal pixels
    kept: Mapping[str, KeptPicture] = field(default_factory=dict, repr=False)  # by camera, if renewed in part

    @classmethod
    def of(cls, prepared: Prepared, rows: Tensor, kept: Mapping[str, KeptPicture] = NOTHING_KEPT) -> VisionCache:
        """Copies the pictures: a simulator may draw the next one over them."""
        views = {name: view.copy() for name, view in prepared.views.items()}
        pixels = prepared.pixels if prepared.rounded_views else None
        return cls(views, prepared.ids, prepared.state, rows, prepared.layout.patches, pixels, kept)

    @property
    def nbytes(self) -> int:
        """Of what is kept to renew pictures in part."""
        return sum(picture.nbytes for picture in self.kept.values())

    def rows_of(self, prepared: Prepared) -> Tensor | Prepared:
        """The same rows for the same pictures, state and text, to the bit; else the frame with what is known of them.

        A state that has no row of its own is not asked for. Nothing is known where rows were renewed in part.
        """
        if not all(picture.exact for picture in self.kept.values()):
            return prepared
        known = {
            name: self.rows[self.patches[name].start : self.patches[name].stop]
            for at, name in enumerate(prepared.views)
            if self._same_picture(prepared, name, at)
        }
        whole = known.keys() == prepared.views.keys() == self.views.keys() and torch.equal(prepared.ids, self.ids)
        if whole and (not prepared.layout.state or _equal(prepared.state, self.state)):
            return self.rows
        return replace(prepared, known=known)

    def _same_picture(self, prepared: Prepared, name: str, at: int) -> bool:
        """Of one camera, the `at`th of the frame's."""
        same = name in self.views and np.array_equal(prepared.views[name], self.views[name])
        if not same or self.pixels is None:
            return same
        return torch.equal(prepared.pixels[at], self.pixels[[*self.views].index(name)])


def _equal(one: Tensor | None, other: Tensor | None) -> bool:
    return one is other or (one is not None and other is not None and torch.equal(one, other))


@dataclass
class SessionState:
    """One session on the device."""

    ref: SessionRef  # of its last computed frame
    caution: Caution
    cause: KeyframeReason | None  # why its next frame has to be a keyframe; None: it need not be
    drafts: DraftProposer = field(default_factory=DraftProposer)
    ensemble: AdaptiveEnsemble | None = None  # of its last chunks
    chunks: SentChunks = field(default_factory=SentChunks)  # of a family whose chunks can be held
    vision: VisionCache | None = None
    looked: Mapping[str, KeptPicture] = field(default_factory=dict)  # of the frame that is being computed
    reuse: ReuseState | None = None  # what its next frame may reuse
    pending: ScheduledFrame | None = None  # its last frame, where an idle refresh can still improve it
    last_drift: float | None = None  # of its last answer, as an idle refresh measured it
    unmeasured: int = 0  # delta frames that were answered since drift was last measured
    audits: int = 0  # keyframes that were brought forward to be audited
    beside_ms: float = 0.0  # device time that refreshes and audits have taken since its last answer
    history: SessionHistory | None = None  # its older frames, where answers look at them

    @property
    def blind(self) -> bool:
        """Whether drift was last measured too long ago to steer by."""
        return self.unmeasured >= BLIND_ANSWERS

    @property
    def refresh_due(self) -> bool:
        """Whether a dense pass of its last frame is due: its next would else be a keyframe, or drift is not known."""
        frame = self.pending
        if frame is None or self.reuse is None:
            return False
        if frame.keyframe is not None or self.blind:
            return True
        return self.reuse.since_dense + 1 >= frame.interval(self.caution.level)

    def measured(self, drift: float, share: float = 1.0) -> None:
        """Take in the drift of a delta frame in a bounded mode. `share`: see `Caution.record`."""
        self.unmeasured = 0
        self.caution.record(drift, share)
        if self.caution.full:
            self.cause = KeyframeReason.DRIFT

    def take_vision_rows(self, prepared: Prepared) -> Tensor | Prepared:
        """The rows of a frame that shows what the last one did; else the frame, with the rows that are known of it.

        Only once: after a failure they are computed again.
        """
        vision, self.vision = self.vision, None
        return prepared if vision is None else vision.rows_of(prepared)

    def take_kept(self) -> Mapping[str, KeptPicture]:
        """What is kept of the last frame's pictures, by camera; only once, likewise."""
        kept = NOTHING_KEPT if self.vision is None else self.vision.kept
        self.vision = None
        return kept

    def resolve_relevance(self) -> None:
        """Compute what mattered in the last frame, unless an idle refresh has done so."""
        frame = self.pending
        if frame is not None and frame.probe is not None and self.reuse is not None:
            self.reuse.task_relevance = frame.attended(frame.probe.relevance(self.reuse.kv))
            frame.probe = None


@dataclass(frozen=True, eq=False)
class Audit:
    """A delta frame that gave way to a keyframe, and is to be computed beside it."""

    session: SessionState
    delta: ScheduledFrame  # its KV is what the session held
    answer: Decoded  # the keyframe's
    share: float  # of the session's answers, those of delta frames
