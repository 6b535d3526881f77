"""Planner: keyframe or delta, why, and which rows the decoder computes.

Knows what a session remembers and what each mode allows; no storage and no time but the frame's own.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from stillframe.domain import REUSE_MODES, KeyframeReason, Observation, ReuseMode
from stillframe.models.base import Prepared
from stillframe.reuse.plan import ReusePlan
from stillframe.reuse.policies import ReusePolicy, reuse_policy
from stillframe.reuse.relevance import Relevance
from stillframe.reuse.selection import TaskRelevance, select
from stillframe.reuse.settings import ReuseSettings
from stillframe.reuse.similarity import PatchTokens, patch_pixels
from stillframe.reuse.state import ReuseState

BOS = 0


@dataclass(frozen=True)
class Frame:
    """One frame, as far as planning sees it."""

    prepared: Prepared
    rows: Tensor  # [prompt_rows, width]: what enters the decoder
    tokens: PatchTokens
    mode: ReuseMode
    recipe: ReusePolicy | None  # None: the mode reuses nothing
    same: Mapping[KeyframeReason, object]  # what the next frame has to share with this one, or be a keyframe
    now_s: float

    @property
    def total_rows(self) -> int:
        """What its storage has to hold."""
        return self.prepared.layout.total_rows

    def attended(self, relevance: Relevance | None) -> TaskRelevance | None:
        """What its recipe makes of where the text looked; None where nobody listened."""
        if self.recipe is None or relevance is None:
            return None
        return TaskRelevance.of(relevance, self.prepared.layout.cameras, self.recipe)


class Planner:
    """One checkpoint's plans. Keeps nothing between frames."""

    def __init__(self, settings: ReuseSettings, layers: int):
        """Make every mode's recipe. Raises ConfigError for a layer that the checkpoint does not have."""
        self._layers = layers
        self._gap_s = settings.gap_s
        self._recipes: dict[ReuseMode, ReusePolicy | None] = {
            mode: reuse_policy(mode, settings, layers) for mode in REUSE_MODES
        }

    def frame(self, observation: Observation, prepared: Prepared, rows: Tensor, mode: ReuseMode, now_s: float) -> Frame:
        """Put together what planning sees; pixels only where the mode compares them."""
        recipe, layout = self._recipes[mode], prepared.layout
        pixels = None
        if recipe is not None and recipe.criterion.needs_pixels:
            pixels = patch_pixels(prepared.views.values(), layout.patch_grid).to(rows.device)
        same = {
            KeyframeReason.MODE: mode,
            KeyframeReason.CAMERAS: {camera: image.shape for camera, image in observation.images.items()},
            KeyframeReason.INSTRUCTION: observation.instruction,
        }
        tokens = PatchTokens(rows[layout.patch_positions.start : layout.patch_positions.stop], pixels)
        return Frame(prepared, rows, tokens, mode, recipe, same, now_s)

    def whole(self, frame: Frame) -> ReusePlan:
        """Everything computed."""
        return ReusePlan.whole(len(frame.rows), self._layers, len(frame.tokens.rows), frame.rows.device)

    def plan(
        self, frame: Frame, remembered: ReuseState | None, cause: KeyframeReason | None, caution: float
    ) -> tuple[ReusePlan, KeyframeReason | None]:
        """The plan, and why it is a keyframe's (None: a delta's). `cause`: a reason that does not lie in the frame."""
        reason = KeyframeReason.OFF if frame.recipe is None else cause or self._reason(frame, frame.recipe, remembered)
        if reason is None and frame.recipe is not None and remembered is not None:
            plan = self._delta(frame, remembered, frame.recipe.tightened(caution))
            if plan is not None:
                return plan, None
            reason = KeyframeReason.SCENE_CUT
        return self.whole(frame), reason

    def _reason(self, frame: Frame, recipe: ReusePolicy, remembered: ReuseState | None) -> KeyframeReason | None:
        """Why the frame has to be whole before any token is compared."""
        if remembered is None:
            return KeyframeReason.FIRST_FRAME
        changed = [reason for reason, value in frame.same.items() if remembered.must_match[reason] != value]
        if changed:
            return changed[0]
        if frame.now_s - remembered.time_s > self._gap_s:
            return KeyframeReason.GAP
        return KeyframeReason.AGE if remembered.since_dense + 1 >= recipe.keyframe_every else None

    def _delta(self, frame: Frame, remembered: ReuseState, recipe: ReusePolicy) -> ReusePlan | None:
        """Static tokens, minus task-relevant, by age and per-layer share; None where too little stayed as it was."""
        if recipe.bounded and recipe.needs_relevance and remembered.task_relevance is None:
            return None  # nobody knows what matters
        likeness = recipe.criterion(frame.tokens, remembered.reference)
        if int(likeness.static.sum()) < recipe.scene_cut * len(likeness.static):
            return None
        layout, attended = frame.prepared.layout, remembered.task_relevance
        chosen = select(likeness, attended, remembered.ages, layout.cameras, recipe)
        positions = chosen + layout.patch_positions.start
        shares = recipe.schedule(self._layers, attended.relevance.entropies if attended else None)
        return ReusePlan(
            rows=len(frame.rows),
            order=functional.pad(positions, (1, 0), value=BOS),  # BOS sees only itself: reusing it is exact
            counts=tuple(1 + int(share * len(positions)) for share in shares),
            static=likeness.static,
            relevant=attended.relevant if attended else torch.zeros_like(likeness.static),
            patches=chosen,
        )
