"""Tells an observer what was computed: sessions' answers, their drift, and on demand what became of each patch.

Knows plans and layouts; not what is made of them. For the engine's thread.
"""

from __future__ import annotations

from collections.abc import Sequence
from logging import Logger

import numpy as np
import torch
from numpy.typing import NDArray

from stillframe.domain import (
    CameraView,
    FrameObserver,
    FrameViews,
    KeyframeReason,
    PatchFate,
    SessionRef,
    SlackReport,
    Step,
)
from stillframe.engine.session_state import ScheduledFrame
from stillframe.errors import RequestError


class FrameReporter:
    """Calls one observer. What it raises is logged, and costs no frame its answer."""

    def __init__(self, observer: FrameObserver, log: Logger):
        self._observer = observer
        self._log = log

    def answered(self, frames: Sequence[ScheduledFrame], answers: Sequence[Step | RequestError]) -> None:
        """Report the frames of a batch that belong to sessions and got an action."""
        try:
            for frame, answer in zip(frames, answers, strict=True):
                if frame.session is not None and isinstance(answer, Step):
                    self._report(frame, frame.session.ref, answer)
        except Exception:  # noqa: BLE001 (to be watched must fail no frame)
            self._log.exception("the observer of frames failed")

    def refreshed(self, session: SessionRef, report: SlackReport) -> None:
        """Report an idle refresh of a session's last frame."""
        try:
            self._observer.refreshed(session, report)
        except Exception:  # noqa: BLE001 (the same)
            self._log.exception("the observer of refreshes failed")

    def _report(self, frame: ScheduledFrame, session: SessionRef, step: Step) -> None:
        views = frame_views(frame) if self._observer.wants_views(session) else None
        self._observer.answered(session, step, views)


def frame_views(frame: ScheduledFrame) -> FrameViews:
    """What one frame showed, with each patch's fate. Copies one byte a patch from the device."""
    layout, views = frame.prepared.layout, frame.prepared.views
    fates = _fates(frame)
    cameras = {
        name: CameraView(views[name], fates[part].reshape(layout.patch_grid))
        for name, part in zip(layout.patches, layout.cameras, strict=True)
        if name in views
    }
    return FrameViews(str(frame.must_match[KeyframeReason.INSTRUCTION]), cameras)


def _fates(frame: ScheduledFrame) -> NDArray[np.uint8]:
    """[patch tokens] of PatchFate."""
    plan = frame.plan
    fates = torch.where(plan.static, int(PatchFate.LIMITED), int(PatchFate.CHANGED))
    fates = torch.where(plan.relevant, int(PatchFate.RELEVANT), fates).to(torch.uint8)
    fates[plan.reused_patches] = int(PatchFate.REUSED)
    array: NDArray[np.uint8] = fates.cpu().numpy()
    return array
