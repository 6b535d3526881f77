"""Drift where a daemon has no pauses: robots that send their next frame as soon as the last is answered.

Knows an engine, recorded episodes and ways to steer; no table. The drift of an answer is its distance from a dense pass
on its frame, computed afterwards by another policy: what the engine measured has no part in it.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait
from contextlib import ExitStack, closing
from dataclasses import dataclass, field, replace

from stillframe.domain import Observation, SessionRef, SlackReport, Step
from stillframe.engine.engine import Engine
from stillframe.engine.local import LocalPolicy
from stillframe.models.base import PolicyModel
from stillframe.reuse.settings import ReuseSettings
from stillframe_lab.ablation.plan import NO_GAP_S
from stillframe_lab.evaluation.actors import Actions, drift
from stillframe_lab.evaluation.race import Observed

LOG = logging.getLogger(__name__)
NO_LIMIT_MS = 1e9
OFF, BEFORE, BLIND, ALWAYS, AUTO = "off", "pauses alone", "no measure", "audits", "audits, slack auto"
LAST_PAUSE_S = 0.2  # in which the last frames' pauses end, so that their reports are this round's
STRIDE = 5  # episodes that a robot goes on by from round to round


@dataclass(frozen=True)
class LoadPlan:
    """What to play: in every round each robot an episode, with each way to steer in turn."""

    reuse: ReuseSettings  # the deployment's
    robots: int = 8
    episodes: int = 16  # recorded
    rounds: int = 8
    unsettled: int = 2  # rounds at the beginning that are not counted: what steers has to find its place
    pause_s: float = 0.0  # from an answer to the robot's next frame
    execute: int = 1  # steps between the frames that a policy of chunks is asked about

    def arms(self) -> dict[str, ReuseSettings]:
        """The ways to steer, by name. Without audits ages are all that bounds drift under load, so they are short."""
        own = replace(self.reuse, mode="adaptive", gap_s=NO_GAP_S)
        unaudited = replace(own, adaptive=replace(own.adaptive, audit_share=0.0, age_limit=1))
        return {
            OFF: replace(own, mode="off"),
            BLIND: replace(unaudited, slack=False),
            BEFORE: replace(unaudited, slack=True),
            ALWAYS: replace(own, slack=True),
            AUTO: replace(own, slack="auto"),
        }


@dataclass(frozen=True)
class Answered:
    """One frame's answer, and how far it is from a dense one."""

    step: Step
    drift: float


@dataclass
class ArmTrace:
    """All that one way to steer did in the rounds that count."""

    answers: list[Answered] = field(default_factory=list)
    reports: list[SlackReport] = field(default_factory=list)
    rounds_s: list[float] = field(default_factory=list)  # seconds an answer, of each round
    rounds_cpu_s: list[float] = field(default_factory=list)  # likewise of all cores' time, refreshes and audits too


class DenseAnswers:
    """Answers frames whole, each with the chance that another policy's answer to it had; equal ones once."""

    def __init__(self, model: PolicyModel):
        self._policy = LocalPolicy(model)
        self._draws = model.info.chunk_horizon > 1  # perhaps; then an answer depends on its place too
        self._known: dict[tuple[int, SessionRef | None], Actions] = {}

    def __call__(self, frame: Observed, place: SessionRef) -> Actions:
        """All actions [horizon, 7] for a frame at a place."""
        key = (id(frame), place if self._draws else None)
        if key not in self._known:
            step = self._policy.answer(observation_of(frame), replace(place, mode="off"))
            self._known[key] = step.chunk.actions
        return self._known[key]


def play_arms(plan: LoadPlan, model: PolicyModel, episodes: Sequence[Sequence[Observed]]) -> dict[str, ArmTrace]:
    """Every round with every arm in turn, in changing order."""
    dense, traces = DenseAnswers(model), {name: ArmTrace() for name in plan.arms()}
    reports: dict[str, list[SlackReport]] = {name: [] for name in traces}
    with ExitStack() as stack:
        engines = {
            name: stack.enter_context(closing(_engine(plan, model, reuse, reports[name])))
            for name, reuse in plan.arms().items()
        }
        for number in range(plan.rounds):
            for name in [*traces] if number % 2 == 0 else [*traces][::-1]:
                began_s, began_cpu_s = time.perf_counter(), time.process_time()
                played = list(_round(plan, engines[name], episodes, number))
                took_s = time.perf_counter() - began_s
                time.sleep(LAST_PAUSE_S)
                cpu_s = time.process_time() - began_cpu_s
                told, reports[name][:] = [*reports[name]], []
                if number >= plan.unsettled:
                    traces[name].answers += [Answered(one.step, _drift(model, dense, one)) for one in played]
                    traces[name].reports += told
                    traces[name].rounds_s.append(took_s / len(played))
                    traces[name].rounds_cpu_s.append(cpu_s / len(played))
    return traces


def observation_of(frame: Observed) -> Observation:
    """A recorded frame, as the engine takes it."""
    return Observation(frame["images"], frame["instruction"], state=frame.get("state"))


@dataclass(frozen=True)
class _Asked:
    frame: Observed
    place: SessionRef
    step: Step


def _round(plan: LoadPlan, engine: Engine, episodes: Sequence[Sequence[Observed]], number: int) -> Iterator[_Asked]:
    """Each robot plays an episode; its next frame goes out when it has the answer to the last."""
    left = {robot: iter(enumerate(episodes[(robot + STRIDE * number) % len(episodes)])) for robot in range(plan.robots)}
    waiting: dict[Future[Step], tuple[int, Observed, SessionRef]] = {}

    def send(robot: int) -> None:
        seq, frame = next(left[robot], (0, None))
        if frame is not None:
            place = SessionRef(f"robot-{robot}", epoch=number, seq=seq)
            waiting[engine.submit(observation_of(frame), NO_LIMIT_MS, place)] = robot, frame, place

    for robot in left:
        send(robot)
    while waiting:
        done, _ = wait(waiting, return_when=FIRST_COMPLETED)
        if plan.pause_s:
            time.sleep(plan.pause_s)
        for answer in done:
            robot, frame, place = waiting.pop(answer)
            send(robot)
            yield _Asked(frame, place, answer.result())


def _drift(model: PolicyModel, dense: DenseAnswers, asked: _Asked) -> float:
    return drift(asked.step.chunk.actions, dense(asked.frame, asked.place), model.info)


def _engine(plan: LoadPlan, model: PolicyModel, reuse: ReuseSettings, reports: list[SlackReport]) -> Engine:
    """One that is warm, and puts its reports there."""
    engine = Engine(
        model,
        reuse=reuse,
        queue_frames=plan.robots,
        clock=time.perf_counter,
        log=LOG,
        on_refresh=reports.append,
    )
    engine.warm_up()
    return engine
