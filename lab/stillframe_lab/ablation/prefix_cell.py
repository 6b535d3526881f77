"""Play one cell of the prefix ablation and save its result; runs in a worker process.

Knows the simulator and one cell; no table.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from stillframe.models.base import PolicyModel
from stillframe.stopwatch import Clock
from stillframe_lab.ablation.cell import contract_of, open_cpu_model, summary
from stillframe_lab.ablation.prefix import TASK, PrefixArm, PrefixCell
from stillframe_lab.ablation.prefix_runner import PrefixEveryStep, pi0_of
from stillframe_lab.evaluation.actors import LocalActor
from stillframe_lab.evaluation.evaluate import Evaluation, evaluate
from stillframe_lab.evaluation.jobs import save_result
from stillframe_lab.evaluation.trace import AnsweredFrame

ActorT = TypeVar("ActorT", bound=LocalActor)


def play_prefix_cell(cell: PrefixCell, origin: Mapping[str, Any], file: Path) -> None:
    """Play every episode and write the result to `file`. Raises ConfigError for a policy without a prefix."""
    plan, family = cell.plan, cell.plan.family
    model = open_cpu_model(family.checkpoint, family.checkpoint_config)
    actor = prefix_actor(LocalActor, model, cell.arm)
    wanted = Evaluation(task=TASK, episodes=plan.episodes, seed=plan.seed, execute=family.execute)
    played = evaluate(wanted, actor, lambda _: None)
    trace = actor.trace
    contract = contract_of(actor.policy.info, family.execute or actor.execute)
    own = {"prefix_rows": prefix_rows(trace.frames), "contract": {**contract, "steps": pi0_of(model).config.flow.steps}}
    save_result(file, origin, {**summary({TASK: played}, trace), **own})


def prefix_actor(kind: type[ActorT], model: PolicyModel, arm: PrefixArm, clock: Clock = time.perf_counter) -> ActorT:
    """An actor that keeps of a prefix what the arm says."""
    actor = kind(pi0_of(model), arm.reuse, measure_every=1, clock=clock)
    if arm.every_step:
        actor.policy.batch.core.runner = PrefixEveryStep.of(model)
    return actor


def prefix_rows(frames: Sequence[AnsweredFrame]) -> float:
    """Rows through the prefix's decoder for an answer, all its passes together: mean over layers and answers."""
    return sum(one.total_tokens * (1 - one.reuse_ratio) * (one.passes or 1) for one in frames) / len(frames)
