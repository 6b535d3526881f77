"""A checkpoint as a function: observation in, action out, in this process and without a daemon.

Knows the engine's step and its slack; no HTTP. Training, evaluation and notebooks use it.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stillframe.domain import Observation, PolicyInfo, SessionRef, SlackReport, Step
from stillframe.engine.cuda_graphs import Recording, replay_on_cuda
from stillframe.engine.history import Recalling
from stillframe.engine.refresh import rest
from stillframe.engine.session_cache import Asked, Keeper
from stillframe.engine.step import step
from stillframe.errors import RequestError
from stillframe.models.base import PolicyModel
from stillframe.reuse.plan import ReusePlan
from stillframe.reuse.settings import DRAFTS_CHECKED, DecodingSettings, GraphSettings, ReuseSettings
from stillframe.stopwatch import Clock

LOG = logging.getLogger(__name__)
ROBOT = "local"
NOTHING_KEPT = ReuseSettings()  # mode off


class LocalFleet:
    """Several robots' policy: a frame of each, side by side. One thread at a time."""

    def __init__(
        self,
        model: PolicyModel,
        robots: int,
        reuse: ReuseSettings = NOTHING_KEPT,
        clock: Clock = time.perf_counter,
        decoding: DecodingSettings = DRAFTS_CHECKED,
        recalling: Recalling | None = None,
    ):
        """Raises ConfigError for knobs that do not fit the checkpoint. `recalling`: older frames are looked at."""
        self._model, self._recalling = model, recalling
        self._keeper = Keeper(model, reuse, clock, default_sessions=robots, decoding=decoding, recalling=recalling)
        self._clock = clock
        recording = Recording(GraphSettings(batches=[robots]), robots, reuse.slot_text_tokens)
        self._runner = replay_on_cuda(model, self._keeper.storage.pool, recording, LOG)
        self._next = [SessionRef(f"{ROBOT}-{robot}") for robot in range(robots)]  # the place of what comes next
        self._last: list[Step] = []

    @property
    def info(self) -> PolicyInfo:
        """What the checkpoint is."""
        info = self._model.info
        return info if self._recalling is None else replace(info, history=self._recalling.info)

    @property
    def last(self) -> list[Step]:
        """The last frames' answers, robot by robot. Raises RuntimeError before the first."""
        if not self._last:
            raise RuntimeError("no frame has been answered yet")
        return self._last

    @property
    def plan(self) -> ReusePlan:
        """The last frame's plan, of the last robot. Raises RuntimeError before the first."""
        if self._keeper.last_plan is None:
            raise RuntimeError("no frame has been planned yet")
        return self._keeper.last_plan

    def __call__(self, observed: Sequence[Mapping[str, Any]]) -> list[NDArray[np.float64]]:
        """Of each robot {"images": {camera: uint8 [H, W, 3]}, "instruction": str} -> the actions due now, [7] each.

        Raises the first RequestError of any.
        """
        asked = [
            Asked(Observation(one["images"], one["instruction"]), place)
            for one, place in zip(observed, self._next, strict=True)
        ]
        self._next = [replace(place, seq=place.seq + 1) for place in self._next]
        self._last = [_step(answer) for answer in step(self._runner, self._keeper, asked, self._clock)]
        return [answer.chunk.actions[0] for answer in self._last]

    def reset(self) -> None:
        """Begin the next episode: its first frames are keyframes."""
        self._next = [SessionRef(place.id, epoch=place.epoch + 1) for place in self._next]

    def rest(self) -> SlackReport | None:
        """What a daemon does in the pause after an answer: measure its drift by a dense pass, refresh what is kept.

        Of the robot that has waited longest. None where there was nothing to measure: keyframes, or a mode in which
        answers cannot drift.
        """
        session = self._keeper.sessions.pending() if self._keeper.settings.slack else None
        return rest(self._runner, self._keeper, session, self._clock, wanted=lambda: False) if session else None


class LocalPolicy:
    """One robot's policy. One thread at a time."""

    def __init__(
        self,
        model: PolicyModel,
        reuse: ReuseSettings = NOTHING_KEPT,
        clock: Clock = time.perf_counter,
        decoding: DecodingSettings = DRAFTS_CHECKED,
        recalling: Recalling | None = None,
    ):
        """Raises ConfigError for knobs that do not fit the checkpoint."""
        self._fleet = LocalFleet(model, 1, reuse, clock, decoding, recalling)

    @property
    def info(self) -> PolicyInfo:
        """What the checkpoint is."""
        return self._fleet.info

    @property
    def last(self) -> Step:
        """The last frame's answer. Raises RuntimeError before the first."""
        return self._fleet.last[0]

    @property
    def plan(self) -> ReusePlan:
        """The last frame's plan. Raises RuntimeError before the first."""
        return self._fleet.plan

    def __call__(self, observed: Mapping[str, Any]) -> NDArray[np.float64]:
        """{"images": {camera: uint8 [H, W, 3]}, "instruction": str} -> the action due now, [7]."""
        return self._fleet([observed])[0]

    def reset(self) -> None:
        """Begin the next episode: its first frame is a keyframe."""
        self._fleet.reset()

    def rest(self) -> SlackReport | None:
        """See LocalFleet."""
        return self._fleet.rest()


def _step(answer: Step | RequestError) -> Step:
    """The answer, if it is one."""
    if isinstance(answer, RequestError):
        raise answer
    return answer
