"""Play one cell and save its result, in a worker process; and load the policy that cells and races use.

Knows the simulator and one cell; no table.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from stillframe.daemon.config import load_config
from stillframe.daemon.serve import open_model
from stillframe.engine.history import HistoryManager
from stillframe.history.checkpoint import HistoryWeights, load_history
from stillframe.models.base import PolicyModel
from stillframe.reuse.settings import ReuseSettings
from stillframe_client.sim.rollout import Episode
from stillframe_lab.evaluation.actors import LocalActor
from stillframe_lab.evaluation.evaluate import Evaluation, evaluate, summarise
from stillframe_lab.evaluation.jobs import save_result
from stillframe_lab.evaluation.trace import Trace
from stillframe_lab.history.arms import OFF, history_of
from stillframe_lab.history.plan import HistoryCell

TASK = "remember"
NOTHING_REUSED = ReuseSettings(mode="off")
KEPT = (
    *("success", "success_ci95", "wrong_cube", "timed_out", "first_direction", "steps_mean", "frames", "reuse_ratio"),
    *("keyframes", "decoder_gmacs", "passes", "history_mib", "history_end_mib", "chunks", "failed_seeds"),
)


def open_policy(checkpoint: Path) -> tuple[PolicyModel, HistoryWeights]:
    """Load a policy on one thread in float32, in which bytes are counted, and its history weights."""
    options = {"checkpoint": checkpoint, "device": "cpu", "dtype": "float32", "threads": 1}
    return open_model(load_config(None, options)), load_history(checkpoint, torch.device("cpu"))


def play_cell(cell: HistoryCell, origin: Mapping[str, Any], file: Path) -> None:
    """Play every episode and write the result to `file`."""
    model, weights = open_policy(cell.checkpoint)
    settings = history_of(cell.arm, cell.chunks, weights.config, cell.history)
    recalling = None if cell.arm == OFF else HistoryManager(model, weights, settings, time.perf_counter)
    actor = LocalActor(model, NOTHING_REUSED, recalling=recalling)
    evaluation = evaluation_of(cell)
    played = evaluate(evaluation, actor, lambda _: None)
    save_result(file, origin, summary(evaluation, played, actor.trace))


def evaluation_of(cell: HistoryCell) -> Evaluation:
    """The cell as `stillframe eval` would play it."""
    return Evaluation(
        TASK, cell.episodes, cell.seed, noise_sigma=cell.noise_sigma, delay=cell.delay, variant=cell.variant
    )


def summary(evaluation: Evaluation, played: Sequence[Episode], trace: Trace) -> dict[str, Any]:
    """A cell's figures; `outcomes` has every episode in the order of its seeds, 1 for a success.

    No times: cells are played in parallel on shared cores.
    """
    figures = summarise(evaluation, [*played], "", trace)
    return {
        **{key: figures[key] for key in KEPT},
        "episodes": len(played),
        "wins": sum(episode.success for episode in played),
        "outcomes": {TASK: "".join(str(int(episode.success)) for episode in played)},
        "drifts": trace.drifts,
    }
