"""Our way to answer, with this or that switched on: a fleet of robots in this process.

Knows the engine's step by way of a fleet; forces drafts where a row is about what a draft is worth, not how good it is.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Literal

import numpy as np

from stillframe.domain import Observation, Step
from stillframe.engine.device import wait_for
from stillframe.engine.drafts import DraftProposer
from stillframe.engine.local import LocalBatchPolicy
from stillframe.models.base import PolicyModel
from stillframe.models.llama.draft import Draft, Ids
from stillframe.reuse.settings import DEFAULT_DECODING, DecodingSettings, ReuseSettings
from stillframe.stopwatch import Clock, Stopwatch
from stillframe_lab.evaluation.macs import Work, step_work, vision_work
from stillframe_lab.latency.race import Answer, Entry
from stillframe_lab.latency.scene import Motion, Scene, Shot

NO_DRAFTS = DecodingSettings(draft="off")
RENAMED = {"decode": "verify"}  # of the step's stages
Guesses = Literal["none", "own", "right", "wrong"]


class Oracle:
    """What greedy decoding says of every robot's frame, found out by a fleet that is not timed.

    A robot's tokens do not depend on who shares its passes: one oracle serves batches of any size up to its own.
    """

    def __init__(self, model: PolicyModel, robots: int, reuse: ReuseSettings, motion: Motion = "moving"):
        self._fleet = LocalBatchPolicy(model, robots, reuse, decoding=NO_DRAFTS)
        self._robots, self._motion, self._turn, self._said = robots, motion, -1, [np.empty(0, np.int64)]

    def tokens(self, scene: Scene, turn: int) -> Sequence[Ids]:
        """Of each robot. A turn may be asked for again until the next one is; none may be left out."""
        if turn != self._turn:
            shots = [scene.shot(self._motion, turn, robot) for robot in range(self._robots)]
            self._fleet([_observed(shot.observation()) for shot in shots])
            self._said, self._turn = [step.chunk.tokens for step in self._fleet.last], turn
        return self._said


class ForcedDrafts:
    """Stands where a fleet's drafts are made, and gives what it was told."""

    def __init__(self) -> None:
        self._told: Iterator[Ids] | None = None  # None: ids that no action has

    def tell(self, ids: Sequence[Ids]) -> None:
        """Robot by robot, for the next call."""
        self._told = iter(ids)

    def draft(self, drafts: DraftProposer | None, still: Ids) -> Draft:  # noqa: ARG002 (the seam's shape)
        """The next robot's."""
        ids = np.zeros_like(still) if self._told is None else next(self._told)
        return Draft(ids, "exact", way="forced")


class Ours:
    """Some robots, answered our way."""

    def __init__(
        self,
        entry: Entry,
        model: PolicyModel,
        clock: Clock,
        reuse: ReuseSettings,
        guesses: Guesses = "none",
        oracle: Oracle | None = None,
    ):
        """`oracle`: who knows what is right; `guesses` that are to be right need one."""
        self.entry = entry
        self._model, self._clock, self._oracle = model, clock, oracle
        decoding = NO_DRAFTS if guesses == "none" else DEFAULT_DECODING
        self._fleet = LocalBatchPolicy(model, entry.robots, reuse, clock, decoding)
        self._forced = ForcedDrafts() if guesses in ("right", "wrong") else None
        if self._forced is not None:
            self._fleet.core.scheduler.drafts = self._forced  # type: ignore[assignment] # of the same shape

    def before(self, scene: Scene, turn: int) -> None:
        """Find out what is right."""
        if self._oracle is not None and self._forced is not None:
            self._forced.tell(self._oracle.tokens(scene, turn))

    def __call__(self, shots: Sequence[Shot]) -> Answer:
        """JPEGs to actions."""
        watch = Stopwatch(self._clock, wait_for(self._model.device))
        observed = [_observed(shot.observation()) for shot in shots]
        watch.lap("decode image")
        self._fleet(observed)
        steps = self._fleet.last
        stages_ms = {RENAMED.get(name, name): ms for name, ms in steps[0].report.stages_ms.items() if name != "queue"}
        return Answer(
            stages_ms={**watch.laps_ms, **stages_ms},
            passes=_mean([step.report.passes for step in steps]),
            accepted=_mean([step.report.draft.accepted for step in steps]),
            reuse_ratio=_mean([step.report.cache.reuse_ratio for step in steps]),
            tokens=tuple(step.chunk.tokens for step in steps),
            work=self._work(steps),
        )

    def after(self) -> None:
        """What a daemon does in the pause."""
        self._fleet.refresh()

    def _work(self, steps: Sequence[Step]) -> tuple[Work, ...]:
        """By the last robot's plan, as if all were alike; the later passes go on as long as anybody's."""
        plan, tokens, passes = self._fleet.plan, steps[0].chunk.tokens.size, max(step.report.passes for step in steps)
        size, robots = self._model.dtype.itemsize, len(steps)
        decoder = step_work(
            self._model.decoder.config, plan.rows, plan.counts, tokens, passes, item_bytes=size, robots=robots
        )
        return (vision_work(self._model, size, robots), *decoder)


def _observed(observation: Observation) -> dict[str, object]:
    return {"images": observation.images, "instruction": observation.instruction}


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)
