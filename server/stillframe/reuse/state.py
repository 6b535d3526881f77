"""What one session's frames leave for its next: keys and values, what each token's were computed from, what mattered.

Knows patch tokens and their ages; not whose they are.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from stillframe.domain import KeyframeReason
from stillframe.reuse.kv import FrameKV
from stillframe.reuse.plan import ReusePlan
from stillframe.reuse.selection import Attended
from stillframe.reuse.similarity import PatchTokens


@dataclass
class Remembered:
    """Belongs to one session, and to the thread that owns the device."""

    kv: FrameKV
    same: Mapping[KeyframeReason, object]  # what the next frame has to share, or be a keyframe for that reason
    reference: PatchTokens  # from which each token's keys and values were computed
    ages: Tensor  # int [patch tokens]: frames since then, at the last frame
    since_dense: int  # frames since the last dense pass
    time_s: float  # when the last frame was answered
    attended: Attended | None = None

    @classmethod
    def fresh(
        cls, kv: FrameKV, same: Mapping[KeyframeReason, object], tokens: PatchTokens, time_s: float
    ) -> Remembered:
        """After a keyframe: every token is of this frame. Keeps copies of the tokens."""
        ages = torch.zeros(len(tokens.rows), dtype=torch.int32, device=tokens.rows.device)
        return cls(kv, same, _copied(tokens), ages, since_dense=0, time_s=time_s)

    def advance(self, plan: ReusePlan, tokens: PatchTokens, time_s: float, *, published: bool) -> int:
        """After a delta frame: all tokens that its plan did not reuse are of this frame. Returns the greatest age.

        `published`: as VLA-Cache has it, the next frame is compared with this one all the same.
        """
        reused = torch.zeros_like(self.ages, dtype=torch.bool)
        reused[plan.reused_patches] = True
        self.ages = (self.ages + 1) * reused
        self.since_dense += 1
        self.time_s = time_s
        self.reference = _copied(tokens) if published else _mixed(reused, self.reference, tokens)
        return int(self.ages.max())

    def refreshed(self, kv: FrameKV, tokens: PatchTokens, attended: Attended | None) -> FrameKV:
        """After a dense pass over the last frame into `kv`: everything is of that frame. Returns the KV given up."""
        self.reference, self.attended = _copied(tokens), attended
        self.ages.zero_()
        self.since_dense = 0
        given_up, self.kv = self.kv, kv
        return given_up


def _copied(tokens: PatchTokens) -> PatchTokens:
    """The rows may be a view of more, which is not to be kept alive."""
    return PatchTokens(tokens.rows.clone(), tokens.pixels)


def _mixed(reused: Tensor, old: PatchTokens, new: PatchTokens) -> PatchTokens:
    """The old tokens where `reused` [tokens] is True, the new ones elsewhere."""
    rows = torch.where(reused[:, None], old.rows, new.rows)
    if old.pixels is None or new.pixels is None:
        return PatchTokens(rows, None)
    return PatchTokens(rows, torch.where(reused[:, None], old.pixels, new.pixels))
