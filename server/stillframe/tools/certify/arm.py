"""Arm: one way of answering at work: an engine core of its own, that is shown tick after tick and timed.

Knows the engine's step and its idle refresh; compares nothing.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from time import perf_counter, thread_time

from stillframe.daemon.config import DaemonConfig
from stillframe.daemon.serve import open_history
from stillframe.domain import SessionRef, Step
from stillframe.engine.core import EngineCore
from stillframe.engine.cuda_graphs import CaptureConfig, capture_graphs_on_cuda
from stillframe.engine.device import wait_for
from stillframe.engine.refresh import refresh_idle_session
from stillframe.engine.requests import FrameRequest
from stillframe.engine.step import step
from stillframe.errors import RequestError, StillframeError
from stillframe.models.base import PolicyModel
from stillframe.tools.certify.arms import ArmSpec
from stillframe.tools.certify.compare import Took
from stillframe.tools.certify.near_ties import WatchedRunner
from stillframe.tools.certify.ticks import Tick

LOG = logging.getLogger(__name__)
WARM_UP = "warm-up"  # the session of frames that are neither compared nor timed
WARM_UP_TICKS = 2  # a keyframe, and one that may reuse it
APART = 7  # ticks between what one session of a batch is shown and the next
STATELESS = "; recordings hold the state where the policy that was served reads one: record sessions of this checkpoint"


@dataclass(frozen=True)
class Answer:
    """What an arm answered to a tick, and what all frames of its pass took, pictures to actions."""

    step: Step
    took: Took


class Arm:
    """One core. One thread at a time."""

    def __init__(self, spec: ArmSpec, model: PolicyModel, deployment: DaemonConfig):
        """Raises ConfigError for settings that do not fit the checkpoint."""
        self.spec = spec
        self._now_s = 0.0
        history = open_history(deployment, model, lambda: self._now_s)
        self.core = EngineCore.of(
            model,
            spec.reuse,
            lambda: self._now_s,
            decoding=spec.decoding,
            history=history,
            default_sessions=spec.robots,
        )
        if spec.graphs:
            capture = CaptureConfig(deployment.graphs, spec.robots, spec.reuse.slot_text_tokens)
            self.core.runner = capture_graphs_on_cuda(model, self.core.cache.slots.pool, capture, LOG)
        else:
            self.core.runner = WatchedRunner.of(self.core.runner)
        self._wait = wait_for(model.device)
        self._playing: str | None = None  # the session whose state the core holds

    @property
    def absent(self) -> str | None:
        """Why this arm is none here; None: it is one."""
        if self.spec.decoding.draft != self.core.draft and self.spec.name.startswith("drafts"):
            return f"{self.core.model.info.name} decodes no tokens one by one: nothing is guessed"
        return None

    def warm_up(self, ticks: Sequence[Tick]) -> None:
        """Answer some frames of a session of their own, and forget them: on the first, libraries choose and compile."""
        for seq in range(WARM_UP_TICKS):
            tick = replace(ticks[seq % len(ticks)], place=SessionRef(WARM_UP, seq=seq))
            self.answer(ticks, seq, replace(tick, at_s=ticks[0].at_s))
            self.rest()
        self.forget()

    def forget(self) -> None:
        """Free what sessions left."""
        for session in [self._playing, *(_beside(place) for place in range(1, self.spec.robots))]:
            if session is not None:
                self.core.cache.end(session)
        self._playing = None

    def answer(self, ticks: Sequence[Tick], number: int, shown: Tick | None = None) -> Answer:
        """Answer tick `number`, or `shown` in its place, beside the frames of the batch's other sessions.

        Raises StillframeError for a frame that the checkpoint cannot answer.
        """
        tick = ticks[number] if shown is None else shown
        if self._playing not in {None, tick.place.id}:
            self.forget()
        self._playing, self._now_s = tick.place.id, tick.at_s
        requests = self._requests(tick, ticks, number)
        own = number % self.spec.robots
        started_s = perf_counter(), thread_time()
        answers = step(self.core, requests)
        self._wait()
        took = Took((perf_counter() - started_s[0]) * 1e3, (thread_time() - started_s[1]) * 1e3)
        answered = answers[own]
        if isinstance(answered, RequestError):
            hint = STATELESS if answered.code == "missing-state" else ""
            raise StillframeError(f"{self.spec.name} cannot answer tick {number}: {answered}{hint}") from answered
        return Answer(answered, took)

    def rest(self) -> None:
        """The pause after an answer: an idle refresh, where the arm's mode and settings have one."""
        cache = self.core.cache
        while (session := cache.next_refresh) is not None:
            refresh_idle_session(self.core, session, should_yield=lambda: False)
        if not self.spec.keeps_vision and self._playing is not None:
            known = cache.sessions.known(self._playing)
            if known is not None:
                known.vision = None  # a plain answer goes through the towers whatever came before

    def _requests(self, tick: Tick, ticks: Sequence[Tick], number: int) -> list[FrameRequest]:
        """The tick's frame, in another place of the batch each time, and one of each session beside it."""
        requests = [
            FrameRequest(
                ticks[(number + APART * place) % len(ticks)].observation, SessionRef(_beside(place), seq=number)
            )
            for place in range(1, self.spec.robots)
        ]
        requests.insert(number % self.spec.robots, FrameRequest(tick.observation, tick.place))
        return requests


def _beside(place: int) -> str:
    """The session of a batch's other frames."""
    return f"beside-{place}"
