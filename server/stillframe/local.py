"""A checkpoint as a function: observation in, action out, in this process and without a daemon.

Knows the engine's step and its slack; no HTTP. Training, evaluation and notebooks use it.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stillframe.domain import Observation, PolicyInfo, SessionRef, SlackReport, Step
from stillframe.engine.keeper import Asked, Keeper
from stillframe.engine.slack import rest
from stillframe.engine.step import step
from stillframe.models.base import PolicyModel
from stillframe.reuse.plan import ReusePlan
from stillframe.reuse.settings import DRAFTS_CHECKED, DecodingSettings, ReuseSettings
from stillframe.stopwatch import Clock

ROBOT = "local"
NOTHING_KEPT = ReuseSettings()  # mode off


class LocalPolicy:
    """One robot's policy. One thread at a time."""

    def __init__(
        self,
        model: PolicyModel,
        reuse: ReuseSettings = NOTHING_KEPT,
        clock: Clock = time.perf_counter,
        decoding: DecodingSettings = DRAFTS_CHECKED,
    ):
        """Raises ConfigError for knobs that do not fit the checkpoint."""
        self._model = model
        self._keeper = Keeper(model, reuse, clock, default_sessions=1, decoding=decoding)
        self._clock = clock
        self._next = SessionRef(ROBOT)  # the place of the frame that comes next
        self._last: Step | None = None

    @property
    def info(self) -> PolicyInfo:
        """What the checkpoint is."""
        return self._model.info

    @property
    def last(self) -> Step:
        """The last frame's answer. Raises RuntimeError before the first."""
        if self._last is None:
            raise RuntimeError("no frame has been answered yet")
        return self._last

    @property
    def plan(self) -> ReusePlan:
        """The last frame's plan. Raises RuntimeError before the first."""
        if self._keeper.last_plan is None:
            raise RuntimeError("no frame has been planned yet")
        return self._keeper.last_plan

    def __call__(self, observed: Mapping[str, Any]) -> NDArray[np.float64]:
        """{"images": {camera: uint8 [H, W, 3]}, "instruction": str} -> the action due now, [7]."""
        asked = Asked(Observation(observed["images"], observed["instruction"]), self._next)
        self._last = step(self._model, self._keeper, asked, self._clock)
        self._next = replace(self._next, seq=self._next.seq + 1)
        action: NDArray[np.float64] = self._last.chunk.actions[0]
        return action

    def reset(self) -> None:
        """Begin the next episode: its first frame is a keyframe."""
        self._next = SessionRef(ROBOT, epoch=self._next.epoch + 1)

    def rest(self) -> SlackReport | None:
        """What a daemon does in the pause after an answer: measure its drift by a dense pass, refresh what is kept.

        None where there was nothing to measure: a keyframe, or a mode in which answers cannot drift.
        """
        session = self._keeper.sessions.pending() if self._keeper.settings.slack else None
        return rest(self._model, self._keeper, session, self._clock, wanted=lambda: False) if session else None
