"""A checkpoint as a function: observation in, action out, in this process and without a daemon.

Knows the engine's step and its idle refresh; no HTTP. Training, evaluation and notebooks use it.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from stillframe.domain import Observation, PolicyInfo, SessionRef, SlackReport, Step
from stillframe.engine.audit import run_audit
from stillframe.engine.core import EngineCore
from stillframe.engine.cuda_graphs import CaptureConfig, capture_graphs_on_cuda
from stillframe.engine.history import HistoryManager
from stillframe.engine.refresh import refresh_idle_session
from stillframe.engine.requests import FrameRequest
from stillframe.engine.settings import DEFAULT_DECODING, DecodingSettings, GraphSettings
from stillframe.engine.step import step
from stillframe.errors import RequestError
from stillframe.models.base import PolicyModel
from stillframe.reuse.plan import ReusePlan
from stillframe.reuse.settings import ReuseSettings
from stillframe.stopwatch import Clock

LOG = logging.getLogger(__name__)
ROBOT = "local"
REUSE_OFF = ReuseSettings()  # mode off


class LocalBatchPolicy:
    """Several robots' policy: a frame of each, side by side. One thread at a time."""

    def __init__(
        self,
        model: PolicyModel,
        robots: int,
        reuse: ReuseSettings = REUSE_OFF,
        clock: Clock = time.perf_counter,
        decoding: DecodingSettings = DEFAULT_DECODING,
        history: HistoryManager | None = None,
    ):
        """Raises ConfigError for settings that do not fit the checkpoint. `history`: answers attend to older frames."""
        self._model, self._history = model, history
        self.core = EngineCore.of(model, reuse, clock, decoding=decoding, history=history, default_sessions=robots)
        config = CaptureConfig(GraphSettings(batches=[robots]), robots, reuse.slot_text_tokens)
        self.core.runner = capture_graphs_on_cuda(model, self.core.cache.slots.pool, config, LOG)
        self._next = [SessionRef(f"{ROBOT}-{robot}") for robot in range(robots)]  # of each robot's next frame
        self._last: list[Step] = []

    @property
    def info(self) -> PolicyInfo:
        """What the checkpoint is."""
        info = self.core.info(self._model.info)
        return info if self._history is None else replace(info, history=self._history.info)

    @property
    def last(self) -> list[Step]:
        """The last frames' answers, robot by robot. Raises RuntimeError before the first."""
        if not self._last:
            raise RuntimeError("no frame has been answered yet")
        return self._last

    @property
    def plan(self) -> ReusePlan:
        """The last frame's plan, of the last robot. Raises RuntimeError before the first."""
        if self.core.cache.last_plan is None:
            raise RuntimeError("no frame has been planned yet")
        return self.core.cache.last_plan

    @property
    def pruned(self) -> tuple[int, ...]:
        """How many rows each layer left out of that frame without reusing any; empty before the first."""
        return self.core.cache.last_pruned

    @property
    def left(self) -> Tensor | None:
        """Positions of that frame's rows that the last layer had; None: all."""
        return self.core.cache.last_left

    def __call__(self, observed: Sequence[Mapping[str, Any]]) -> list[NDArray[np.float64]]:
        """Of each robot {"images": {camera: uint8 [H, W, 3]}, "instruction": str} -> the actions due now, [7] each.

        "state": float64 [its numbers], where the policy reads one. "masks": {camera: bool [H, W]}, where plans go by
        them. "rtc": a RtcRequest, for a chunk that is held.
        Raises the first RequestError of any.
        """
        requests = [
            FrameRequest(
                Observation(one["images"], one["instruction"], state=one.get("state"), masks=one.get("masks") or {}),
                replace(ref, rtc=one.get("rtc")),
            )
            for one, ref in zip(observed, self._next, strict=True)
        ]
        self._next = [replace(ref, seq=ref.seq + 1) for ref in self._next]
        return [answer.chunk.actions[0] for answer in self.answer(requests)]

    def answer(self, requests: Sequence[FrameRequest]) -> list[Step]:
        """Answer frames that name their own places, no two of one session. Raises the first RequestError of any."""
        self._last = [_step(answer) for answer in step(self.core, requests)]
        return self._last

    def reset(self) -> None:
        """Begin the next episode: its first frames are keyframes."""
        self._next = [SessionRef(ref.id, epoch=ref.epoch + 1) for ref in self._next]

    def audit(self) -> SlackReport | None:
        """What a daemon does right after its answers, pause or not: audit one of their keyframes. None: none is due."""
        self.core.scheduler.audits.earn(sum(step.report.computed_ms / step.report.batch for step in self._last) / 1e3)
        audit = self.core.cache.take_audit()
        return None if audit is None else run_audit(self.core, audit)

    def refresh(self) -> SlackReport | None:
        """What an idle daemon does after an answer: measure its drift by a dense pass, renew the KV.

        Of the robot that has waited longest. None where there was nothing to measure: keyframes, or a mode in which
        answers cannot drift.
        """
        session = self.core.cache.next_refresh
        return refresh_idle_session(self.core, session, should_yield=lambda: False) if session else None


class LocalPolicy:
    """One robot's policy. One thread at a time."""

    def __init__(
        self,
        model: PolicyModel,
        reuse: ReuseSettings = REUSE_OFF,
        clock: Clock = time.perf_counter,
        decoding: DecodingSettings = DEFAULT_DECODING,
        history: HistoryManager | None = None,
    ):
        """Raises ConfigError for settings that do not fit the checkpoint."""
        self.batch = LocalBatchPolicy(model, 1, reuse, clock, decoding, history)

    @property
    def info(self) -> PolicyInfo:
        """What the checkpoint is."""
        return self.batch.info

    @property
    def last(self) -> Step:
        """The last frame's answer. Raises RuntimeError before the first."""
        return self.batch.last[0]

    @property
    def plan(self) -> ReusePlan:
        """The last frame's plan. Raises RuntimeError before the first."""
        return self.batch.plan

    @property
    def pruned(self) -> tuple[int, ...]:
        """See LocalBatchPolicy."""
        return self.batch.pruned

    @property
    def left(self) -> Tensor | None:
        """See LocalBatchPolicy."""
        return self.batch.left

    def __call__(self, observed: Mapping[str, Any]) -> NDArray[np.float64]:
        """{"images": {camera: uint8 [H, W, 3]}, "instruction": str} -> the action due now, [7]."""
        return self.batch([observed])[0]

    def answer(self, observation: Observation, place: SessionRef) -> Step:
        """Answer a frame that names its own place. Raises RequestError."""
        return self.batch.answer([FrameRequest(observation, place)])[0]

    def forget(self, session_id: str) -> None:
        """Free what a session left."""
        self.batch.core.cache.end(session_id)

    def reset(self) -> None:
        """Begin the next episode: its first frame is a keyframe."""
        self.batch.reset()

    def audit(self) -> SlackReport | None:
        """See LocalBatchPolicy."""
        return self.batch.audit()

    def refresh(self) -> SlackReport | None:
        """See LocalBatchPolicy."""
        return self.batch.refresh()


def _step(answer: Step | RequestError) -> Step:
    """The answer, if it is one."""
    if isinstance(answer, RequestError):
        raise answer
    return answer
