"""Variants of stillframe's own engine: a batch of robots in this process, with features switched on or off.

Knows the engine's step by a local batch; forces drafts in rows that show what a right or wrong draft is worth.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Literal

import numpy as np

from stillframe.domain import Observation, Step
from stillframe.engine.device import wait_for
from stillframe.engine.drafts import DraftProposer
from stillframe.engine.local import LocalBatchPolicy
from stillframe.engine.settings import DEFAULT_DECODING, DecodingSettings
from stillframe.models.base import PolicyModel
from stillframe.models.llama.draft import Draft, Ids
from stillframe.reuse.settings import ReuseSettings
from stillframe.stopwatch import Clock, Stopwatch
from stillframe_lab.evaluation.macs import Work, head_work, policy_work, vision_work
from stillframe_lab.latency.race import StepResult, VariantInfo
from stillframe_lab.latency.scene import Motion, Scene, SceneFrame

NO_DRAFTS = DecodingSettings(draft="off")
RENAMED = {"decode": "verify"}  # of the step's stages
DraftSource = Literal["none", "own", "right", "wrong"]


class GreedyOracle:
    """The tokens of greedy decoding for every robot's frame, computed untimed.

    A robot's tokens do not depend on its batch: one oracle serves batches of any size up to its own.
    """

    def __init__(self, model: PolicyModel, robots: int, reuse: ReuseSettings, motion: Motion = "moving"):
        self._fleet = LocalBatchPolicy(model, robots, reuse, decoding=NO_DRAFTS)
        self._info = model.info
        self._robots, self._motion, self._turn, self._tokens = robots, motion, -1, [np.empty(0, np.int64)]

    def tokens(self, scene: Scene, turn: int) -> Sequence[Ids]:
        """Tokens of each robot. Turns come in order; the last one may be repeated."""
        if turn != self._turn:
            shots = [scene.shot(self._motion, turn, robot) for robot in range(self._robots)]
            self._fleet([_observed(shot.of_policy(self._info)) for shot in shots])
            self._tokens, self._turn = [step.chunk.tokens for step in self._fleet.last], turn
        return self._tokens


class ForcedDrafts:
    """Replaces the engine's draft factory with given drafts."""

    def __init__(self) -> None:
        self._drafts: Iterator[Ids] | None = None  # None: ids of no action

    def set_drafts(self, ids: Sequence[Ids]) -> None:
        """Set the drafts of the next call, robot by robot."""
        self._drafts = iter(ids)

    def draft(self, drafts: DraftProposer | None, still: Ids) -> Draft:  # noqa: ARG002 (the seam's shape)
        """The next robot's draft."""
        ids = np.zeros_like(still) if self._drafts is None else next(self._drafts)
        return Draft(ids, "exact", way="forced")


class StillframeVariant:
    """Robots in one batch, answered by stillframe."""

    def __init__(
        self,
        entry: VariantInfo,
        model: PolicyModel,
        clock: Clock,
        reuse: ReuseSettings,
        drafts: DraftSource = "none",
        oracle: GreedyOracle | None = None,
    ):
        """`oracle`: the right tokens; needed for `drafts` "right"."""
        self.entry = entry
        self._model, self._clock, self._oracle = model, clock, oracle
        self._info = model.info
        decoding = NO_DRAFTS if drafts == "none" else DEFAULT_DECODING
        self._fleet = LocalBatchPolicy(model, entry.robots, reuse, clock, decoding)
        self._forced = ForcedDrafts() if drafts in ("right", "wrong") else None
        if self._forced is not None:
            self._fleet.core.scheduler.drafts = self._forced  # type: ignore[assignment] # of the same shape

    def before(self, scene: Scene, turn: int) -> None:
        """Compute the right tokens."""
        if self._oracle is not None and self._forced is not None:
            self._forced.set_drafts(self._oracle.tokens(scene, turn))

    def __call__(self, shots: Sequence[SceneFrame]) -> StepResult:
        """JPEGs to actions."""
        watch = Stopwatch(self._clock, wait_for(self._model.device))
        observed = [_observed(shot.of_policy(self._info)) for shot in shots]
        watch.lap("decode image")
        self._fleet(observed)
        steps = self._fleet.last
        stages_ms = {RENAMED.get(name, name): ms for name, ms in steps[0].report.stages_ms.items() if name != "queue"}
        return StepResult(
            stages_ms={**watch.laps_ms, **stages_ms},
            passes=_mean([step.report.passes for step in steps]),
            accepted=_mean([step.report.draft.accepted for step in steps]),
            reuse_ratio=_mean([step.report.cache.reuse_ratio for step in steps]),
            tokens=tuple(step.chunk.tokens for step in steps),
            work=self._work(steps),
            chunks=tuple(step.chunk.actions for step in steps),
        )

    def after(self) -> None:
        """Refresh, as a daemon does in the pause."""
        self._fleet.refresh()

    def _work(self, steps: Sequence[Step]) -> tuple[Work, ...]:
        """The work of the batch, by the last robot's plan; passes: the most of any robot."""
        plan, tokens, passes = self._fleet.plan, steps[0].chunk.tokens.size, max(step.report.passes for step in steps)
        size, robots = self._model.dtype.itemsize, len(steps)
        held = (
            1 if self._model.decoder.weights == "int8" else size
        )  # bytes of a number of the layers: most of what is read
        decoder = policy_work(self._model, plan, tokens, passes, item_bytes=held, robots=robots)
        return (vision_work(self._model, size, robots), *decoder, *head_work(self._model, size, robots, plan.rows))


def _observed(observation: Observation) -> dict[str, object]:
    return {"images": observation.images, "instruction": observation.instruction, "state": observation.state}


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)
