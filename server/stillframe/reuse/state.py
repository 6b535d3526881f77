"""ReuseState: what a session's last frame leaves for the next: KV, reference patches, ages, task relevance.

Knows patch tokens and their ages; no session.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from stillframe.domain import KeyframeReason
from stillframe.reuse.kv import FrameKV
from stillframe.reuse.plan import ReusePlan
from stillframe.reuse.selection import TaskRelevance
from stillframe.reuse.similarity import PatchTokens


@dataclass
class ReuseState:
    """Belongs to one session, and to the thread that owns the device."""

    kv: FrameKV
    must_match: Mapping[
        KeyframeReason, object
    ]  # values that the next frame must share; else it is a keyframe for that reason
    reference: PatchTokens  # from which each token's keys and values were computed
    ages: Tensor  # int [patch tokens]: frames since then, at the last frame
    since_dense: int  # frames since the last dense pass
    time_s: float  # when the last frame was answered
    task_relevance: TaskRelevance | None = None

    @classmethod
    def fresh(
        cls, kv: FrameKV, must_match: Mapping[KeyframeReason, object], tokens: PatchTokens, time_s: float
    ) -> ReuseState:
        """After a keyframe: every token is of this frame. Copies the tokens."""
        ages = torch.zeros(len(tokens.rows), dtype=torch.int32, device=tokens.rows.device)
        return cls(kv, must_match, _copied(tokens), ages, since_dense=0, time_s=time_s)

    def advance(self, plan: ReusePlan, tokens: PatchTokens, time_s: float, *, published: bool) -> int:
        """After a delta frame: tokens that were not reused are of this frame. Returns the greatest age.

        `published`: as in VLA-Cache, every reference becomes this frame's.
        """
        reused = torch.zeros_like(self.ages, dtype=torch.bool)
        reused[plan.reused_patches] = True
        self.ages = (self.ages + 1) * reused
        self.since_dense += 1
        self.time_s = time_s
        self.reference = _copied(tokens) if published else _mixed(reused, self.reference, tokens)
        return int(self.ages.max())

    def refreshed(self, kv: FrameKV, tokens: PatchTokens, task_relevance: TaskRelevance | None) -> FrameKV:
        """After an idle dense pass over the last frame into `kv`: every token is of that frame. Returns the old KV."""
        self.reference, self.task_relevance = _copied(tokens), task_relevance
        self.ages.zero_()
        self.since_dense = 0
        given_up, self.kv = self.kv, kv
        return given_up


def _copied(tokens: PatchTokens) -> PatchTokens:
    """A copy of the rows, which may be a view that would keep more memory alive."""
    return PatchTokens(tokens.rows.clone(), tokens.pixels)


def _mixed(reused: Tensor, old: PatchTokens, new: PatchTokens) -> PatchTokens:
    """The old tokens where `reused` [tokens] is True, the new ones elsewhere."""
    rows = torch.where(reused[:, None], old.rows, new.rows)
    if old.pixels is None or new.pixels is None:
        return PatchTokens(rows, None)
    return PatchTokens(rows, torch.where(reused[:, None], old.pixels, new.pixels))
