"""Planner: keyframe or delta, why, and which rows the decoder computes.

Knows what a session's last frame left and what each mode allows; no storage and no time but the frame's own.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from stillframe.domain import PRUNING_MODES, REUSE_MODES, KeyframeReason, Observation, ReuseMode
from stillframe.engine.session_state import ScheduledFrame
from stillframe.models.base import Prepared
from stillframe.models.llama.draft import Draft
from stillframe.models.llama.layout import Mask
from stillframe.reuse.masks import masked_patches
from stillframe.reuse.plan import ReusePlan
from stillframe.reuse.policies import ReusePolicy, reuse_policy
from stillframe.reuse.pruning import Method
from stillframe.reuse.selection import select
from stillframe.reuse.selector import PatchSelector
from stillframe.reuse.settings import ReuseSettings
from stillframe.reuse.similarity import PatchTokens, patch_pixels
from stillframe.reuse.state import ReuseState

BOS = 0


class Planner:
    """One checkpoint's plans. Keeps nothing between frames."""

    def __init__(self, settings: ReuseSettings, layers: int, selector: PatchSelector | None = None):
        """Make every mode's policy. Raises ConfigError for a layer that the checkpoint does not have."""
        self._layers = layers
        self._gap_s = settings.gap_s
        self._policies: dict[ReuseMode, ReusePolicy | None] = {
            mode: reuse_policy(mode, settings, layers, selector) for mode in REUSE_MODES
        }

    def frame(
        self,
        observation: Observation,
        prepared: Prepared,
        rows: Tensor,
        mode: ReuseMode,
        now_s: float,
        draft: Draft,
        pruning: Method | None = None,
    ) -> ScheduledFrame:
        """What planning compares, of rows [prompt_rows, width]; pixels only where the mode compares them."""
        policy, layout = self._policy(mode, prepared.layout.mask), prepared.layout
        pixels = None
        if policy is not None and policy.criterion.needs_pixels:
            pixels = patch_pixels(prepared.views.values(), layout.patch_grid).to(rows.device)
        must_match = {
            KeyframeReason.MODE: mode,
            KeyframeReason.CAMERAS: {camera: image.shape for camera, image in observation.images.items()},
            KeyframeReason.INSTRUCTION: observation.instruction,
        }
        tokens = PatchTokens(rows[layout.patch_positions.start : layout.patch_positions.stop], pixels)
        masked = None
        if policy is not None and policy.relevance == "masks":
            masked = _masked(observation, prepared)
        return ScheduledFrame(prepared, rows, tokens, mode, policy, must_match, now_s, draft, pruning, masked)

    def whole(self, frame: ScheduledFrame) -> ReusePlan:
        """Everything computed."""
        return ReusePlan.whole(len(frame.rows), self._layers, len(frame.tokens.rows), frame.rows.device)

    def plan(
        self, frame: ScheduledFrame, state: ReuseState | None, cause: KeyframeReason | None, caution: float
    ) -> tuple[ReusePlan, KeyframeReason | None]:
        """The plan, and why it is a keyframe's (None: a delta's). `cause`: a reason that does not lie in the frame."""
        if frame.policy is None:
            return self.whole(frame), _reason_without_policy(frame)
        policy = frame.policy.tightened(caution)
        reason = cause or self._reason(frame, policy, state)
        if reason is None and state is not None:
            plan = self._delta(frame, state, policy)
            if plan is not None:
                return plan, None
            reason = KeyframeReason.SCENE_CUT
        return self.whole(frame), reason

    def _policy(self, mode: ReuseMode, mask: Mask) -> ReusePolicy | None:
        """None where the mode reuses nothing, or only what cannot change and every row depends on every other."""
        policy = self._policies[mode]
        return None if policy is not None and policy.exact and mask is not Mask.CAUSAL else policy

    def _reason(self, frame: ScheduledFrame, policy: ReusePolicy, state: ReuseState | None) -> KeyframeReason | None:
        """Why the frame has to be a keyframe before any token is compared."""
        if state is None:
            return KeyframeReason.FIRST_FRAME
        changed = [reason for reason, value in frame.must_match.items() if state.must_match[reason] != value]
        if changed:
            return changed[0]
        if frame.now_s - state.time_s > self._gap_s:
            return KeyframeReason.GAP
        return KeyframeReason.AGE if state.since_dense + 1 >= policy.keyframe_every else None

    def _delta(self, frame: ScheduledFrame, state: ReuseState, policy: ReusePolicy) -> ReusePlan | None:
        """Static tokens, minus task-relevant, by age and per-layer share; None where too little stayed as it was."""
        if policy.bounded and policy.needs_relevance and state.task_relevance is None:
            return None  # relevance is not known
        likeness = policy.criterion(frame.tokens, state.reference)
        if int(likeness.static.sum()) < policy.scene_cut * len(likeness.static):
            return None
        layout, attended = frame.prepared.layout, frame.task_relevance(state)
        chosen = select(likeness, attended, state.ages, layout.cameras, policy, layout.patch_grid)
        positions = chosen + layout.patch_positions.start
        alone = int(layout.mask is Mask.CAUSAL)  # BOS sees only itself under a causal mask: reusing it is exact
        observed = state.task_relevance  # which has entropies, whatever says what matters
        shares = policy.schedule(self._layers, observed.relevance.entropies if observed else None)
        return ReusePlan(
            rows=len(frame.rows),
            order=functional.pad(positions, (alone, 0), value=BOS),
            counts=tuple(alone + int(share * len(positions)) for share in shares),
            static=likeness.static,
            relevant=attended.relevant if attended else torch.zeros_like(likeness.static),
            patches=chosen,
        )


def _masked(observation: Observation, prepared: Prepared) -> Tensor:
    """Which patches the frame's masks touch [patch tokens]."""
    grid, crop = prepared.layout.patch_grid, observation.center_crop
    return masked_patches(observation.masks, [*prepared.layout.patches], grid, crop, padded=prepared.padded_views)


def _reason_without_policy(frame: ScheduledFrame) -> KeyframeReason:
    """Why a frame whose mode reuses nothing is a keyframe."""
    if frame.mode in PRUNING_MODES:
        return KeyframeReason.UNSUPPORTED if frame.pruning is None else KeyframeReason.PRUNED
    return KeyframeReason.OFF if frame.mode == "off" else KeyframeReason.INEXACT
