"""Shadow: a second policy answers what the first one has answered, while no frame waits, to see how far apart they are.

Knows both policies' answers and how to yield; not when the device is idle. For the engine's thread.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from logging import Logger

from stillframe.domain import Observation, PolicyInfo, SessionRef, ShadowOutcome, ShadowReport, Step, blank_observation
from stillframe.engine.core import EngineCore
from stillframe.engine.device import check_device, clear_tracebacks
from stillframe.engine.drift import chunk_distances
from stillframe.engine.preemption import Preempted, ShouldYield, yielding_between_blocks
from stillframe.engine.requests import FrameRequest
from stillframe.engine.step import step
from stillframe.errors import ConfigError, RequestError
from stillframe.models.base import PolicyModel
from stillframe.reuse.settings import ReuseSettings
from stillframe.stopwatch import Clock

MOST_WAITING = 8  # frames, whose pictures are held; of more the oldest are left out
SEEDS = 2**63  # a frame's seed is below


@dataclass(frozen=True)
class _AnsweredFrame:
    """A frame and the first policy's answer."""

    observation: Observation
    session: SessionRef
    step: Step


class Shadow:
    """The second policy. It reuses nothing between frames, and none of its answers is sent."""

    def __init__(
        self,
        model: PolicyModel,
        first: PolicyInfo,
        share: float,
        *,
        clock: Clock,
        log: Logger,
        report: Callable[[ShadowReport], None],
    ):
        """`first`: the policy that answers; `share`: of its sessions' frames, 0 to 1, that `model` answers too.

        `report` is called with what becomes of each of these. Raises ConfigError where the two are not for one robot.
        """
        _check_same_robot(first, model.info)
        self.info = model.info
        self._core = EngineCore.of(model, ReuseSettings(), clock, default_sessions=1)
        self._first = first
        self._share = share
        self._log = log
        self._report = report
        self._waiting: deque[_AnsweredFrame] = deque()
        self._has_failed = False
        self._try()

    def add(self, requests: Sequence[FrameRequest], answers: Sequence[Step | RequestError]) -> None:
        """Take in its share of frames that were just answered: of sessions, and with chunks that were drawn freely."""
        for request, answer in zip(requests, answers, strict=True):
            session = request.session
            if session is None or session.rtc is not None or isinstance(answer, RequestError):
                continue
            if is_sampled(session, self._share):
                self._waiting.append(_AnsweredFrame(request.observation, session, answer))
        while len(self._waiting) > MOST_WAITING:
            self._waiting.popleft()
            self._report(ShadowReport("skipped"))

    def compute(self, should_yield: ShouldYield, waited_ms: Callable[[], float | None]) -> bool:
        """Answer the oldest frame that waits; return whether there was one. Never raises.

        A frame of a robot that comes in meanwhile ends it between two blocks of the network, `waited_ms` after it came;
        the work is done again later.
        """
        if not self._waiting:
            return False
        frame, started_s = self._waiting.popleft(), self._core.clock()
        try:
            with yielding_between_blocks(self._core.model.device, should_yield):
                outcome, by_action = self._compare(frame)
        except Preempted:
            self._waiting.appendleft(frame)
            outcome, by_action = "preempted", ()
        took_ms = (self._core.clock() - started_s) * 1e3
        self._report(ShadowReport(outcome, took_ms, by_action, waited_ms() if outcome == "preempted" else None))
        return True

    def _compare(self, frame: _AnsweredFrame) -> tuple[ShadowOutcome, tuple[float, ...]]:
        """How far each action of its answer lies from the first policy's. Only Preempted is raised."""
        theirs = frame.step.chunk
        try:
            chunk = self._answer(frame.observation, frame.session, theirs.unnorm_key).chunk
            return "compared", tuple(chunk_distances(chunk, theirs, self._first).max(axis=1).tolist())
        except Preempted:
            raise
        except Exception as error:  # noqa: BLE001 (counted; the first is logged, and no robot waits for any)
            if not self._has_failed:
                self._log.warning(
                    "the shadow %s failed on a frame; later ones are counted", self.info.name, exc_info=error
                )
            self._has_failed = True
            check_device(error, self._core.model.device)
            clear_tracebacks(error, self._core.model.device)
            return "failed", ()

    def _answer(self, observation: Observation, session: SessionRef, unnorm_key: str) -> Step:
        """Answer a frame whole. Raises RequestError.

        `unnorm_key`: the first policy's; without such statistics the shadow takes its own. What it draws by chance is
        what the frame's seed gives both.
        """
        known = replace(observation, unnorm_key=unnorm_key if unnorm_key in self.info.norm_stats else None)
        try:
            (answer,) = step(self._core, [FrameRequest(known, replace(session, mode="off"))])
        finally:
            self._core.cache.end(session.id)
        if isinstance(answer, RequestError):
            raise answer
        return answer

    def _try(self) -> None:
        """Answer a blank frame of the first policy's. Raises ConfigError if that fails: every frame would."""
        blank = blank_observation(self._first)
        try:
            self._answer(blank, SessionRef("shadow"), str(blank.unnorm_key))
        except RequestError as error:
            raise ConfigError(
                f"shadow: {self.info.name} cannot answer the frames of {self._first.name}: {error}"
            ) from error


def is_sampled(session: SessionRef, share: float) -> bool:
    """Whether a frame is of the share, 0 to 1, of its episode's: the same ones whenever it is played."""
    return session.seed < share * SEEDS


def _check_same_robot(first: PolicyInfo, second: PolicyInfo) -> None:
    """Raise ConfigError where actions differ in their numbers, or the second asks for a state that frames may lack."""
    if first.action_names != second.action_names:
        raise ConfigError(
            f"shadow: actions of {second.name} are {', '.join(second.action_names)}, those of {first.name} "
            f"{', '.join(first.action_names)}; expected a policy of the same robot"
        )
    states = [None if info.state is None else info.state.names for info in (first, second)]
    if states[1] is not None and states[0] != states[1]:
        has = "reads none" if states[0] is None else f"reads {', '.join(states[0])}"
        raise ConfigError(
            f"shadow: {second.name} reads the state {', '.join(states[1])}, and {first.name} {has}; expected one that "
            "reads the same, or none"
        )
