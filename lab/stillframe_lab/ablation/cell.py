"""Play one cell of the ablation and save its result; runs in a worker process.

Knows the simulator and one cell; no table.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from stillframe.daemon.config import load_config
from stillframe.daemon.serve import open_model
from stillframe.domain import PolicyInfo
from stillframe.models.base import PolicyModel
from stillframe_client.sim.rollout import Episode
from stillframe_lab.ablation.plan import TASKS, AblationCell
from stillframe_lab.evaluation.actors import LocalActor
from stillframe_lab.evaluation.chunk_actor import asked_ms
from stillframe_lab.evaluation.evaluate import Evaluation, evaluate, ms_per_step, wilson
from stillframe_lab.evaluation.jobs import save_result
from stillframe_lab.evaluation.trace import Trace, figures, percentiles

MEASURE_EVERY = 4  # delta frames, where measuring drift takes an extra dense pass; of chunks, which are few, each


def play_cell(cell: AblationCell, origin: Mapping[str, Any], file: Path) -> None:
    """Play every episode and write the result to `file`."""
    model = open_cpu_model(cell.condition.checkpoint, cell.checkpoint_config)
    every = MEASURE_EVERY if model.info.chunk_horizon == 1 else 1
    actor = LocalActor(model, cell.reuse, measure_every=every)
    played, traces = {}, []
    for task in TASKS:
        played[task] = evaluate(_evaluation(cell, task), actor, lambda _: None)
        traces.append(actor.trace.taken())
    contract = contract_of(actor.policy.info, cell.execute or actor.execute)
    save_result(file, origin, {**summary(played, Trace.joined(traces)), "contract": contract})


def open_cpu_model(checkpoint: Path, checkpoint_config: Mapping[str, Any] | None = None, **options: Any) -> PolicyModel:
    """Load a checkpoint on one thread."""
    changed = {} if checkpoint_config is None else {"checkpoint_config": dict(checkpoint_config)}
    return open_model(
        load_config(None, {"checkpoint": checkpoint, "device": "cpu", "threads": 1, **changed, **options})
    )


def contract_of(info: PolicyInfo, execute: int) -> dict[str, Any]:
    """What a table says of a policy, as JSON."""
    return {
        "family": info.family,
        "parameters": info.parameters,
        "cameras": [*info.cameras],
        "state": [] if info.state is None else [*info.state.names],
        "horizon": info.chunk_horizon,
        "execute": execute,
    }


def summary(played: Mapping[str, Sequence[Episode]], trace: Trace) -> dict[str, Any]:
    """A cell's figures over all its tasks; `outcomes` has every episode in the order of its seeds, 1 for a success."""
    episodes = [episode for every in played.values() for episode in every]
    wins, answers_ms = sum(episode.success for episode in episodes), asked_ms(episodes, trace)
    return {
        "episodes": len(episodes),
        "wins": wins,
        "success": wins / len(episodes),
        "success_ci95": wilson(wins, len(episodes)),
        "wrong_cube": sum(episode.wrong_object for episode in episodes) / len(episodes),
        "wins_by_task": {task: sum(episode.success for episode in every) for task, every in played.items()},
        "outcomes": {task: "".join(str(int(one.success)) for one in every) for task, every in played.items()},
        "steps_mean": sum(episode.steps for episode in episodes) / len(episodes),
        "latency_ms": percentiles(answers_ms),
        "ms_per_step": ms_per_step(episodes),
        **figures(trace, answers_ms),
        "drifts": [round(value, 5) for value in trace.drifts],
    }


def _evaluation(cell: AblationCell, task: str) -> Evaluation:
    seen = cell.condition
    return Evaluation(
        task=task,
        episodes=cell.episodes,
        seed=cell.seed,
        hz=cell.hz,
        noise_sigma=seen.noise_sigma,
        jpeg_quality=seen.jpeg_quality,
        cameras=seen.cameras,
        distractor=seen.distractor,
        execute=cell.execute,
        masks="masks" in (cell.reuse.adaptive.relevance, cell.reuse.paper.relevance),
    )
