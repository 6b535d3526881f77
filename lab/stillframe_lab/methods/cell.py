"""Play one cell: its arms in turn from each of its initial states, in one simulator; runs in a worker process.

Knows a policy in this process and the simulator's; no table.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import Any

from stillframe.domain import PolicyInfo, blank_observation
from stillframe.engine.settings import DecodingSettings
from stillframe.models.base import PolicyModel
from stillframe.reuse.settings import ReuseSettings
from stillframe.web.service.model_card import model_card
from stillframe_client.replies import model_info
from stillframe_lab.ablation.cell import open_cpu_model
from stillframe_lab.evaluation.actors import LocalActor
from stillframe_lab.evaluation.evaluate import wilson
from stillframe_lab.evaluation.trace import Trace, figures
from stillframe_lab.libero.bench import Bench
from stillframe_lab.libero.episode import Asking, PlayedEpisode, Player, PolicyPlayer, Simulator
from stillframe_lab.libero.process import Masks
from stillframe_lab.methods.arm_results import finished_arms, save_arms
from stillframe_lab.methods.plan import MethodsCell, MethodsPlan, asks_masks

DIGITS = 5


def play_methods_cell(cell: MethodsCell, origin: Mapping[str, Any], folder: Path) -> None:
    """Play every episode by every arm that is wanted and has no result in `folder`, and write theirs there."""
    finished, plan = finished_arms(cell, origin, folder), cell.plan
    missing = {name: plan.arms[name] for name in plan.to_play if name not in finished}
    model = open_cpu_model(plan.checkpoint, plan.checkpoint_config)
    with plan.bench.simulator(draws=True) as simulator:
        played = played_in_turn(cell, simulator, arm_players(plan, missing, model, simulator.masks))
    save_arms(cell, origin, folder, {name: arm_result(cell.task, episodes) for name, episodes in played.items()})


def played_in_turn(
    cell: MethodsCell, simulator: Simulator, players: Mapping[str, Player]
) -> dict[str, list[PlayedEpisode]]:
    """Arm -> its episodes, in the order of the cell's initial states."""
    rules, running = cell.plan.bench.rules(cell.plan.seed), threading.Event()
    played: dict[str, list[PlayedEpisode]] = {name: [] for name in players}
    scene = simulator.open(cell.plan.bench.suite, cell.task)
    for number, episode in enumerate(cell.episodes):
        for name in turned([*players], number):
            played[name].append(rules.play(simulator, scene, episode, players[name], simulator.pictures, running))
    return played


def arm_players(
    plan: MethodsPlan,
    arms: Mapping[str, ReuseSettings],
    model: PolicyModel,
    masks: Callable[[Sequence[str]], Masks],
) -> dict[str, PolicyPlayer]:
    """A robot for each arm. Times are CPU time of this thread: others on the machine do not count.

    `masks`: the simulator's, for those arms that go by them; no time of an arm counts how they are made.
    """
    protocol, clock = local_protocol(model.info, plan.bench, plan.execute), time.thread_time
    decoding = DecodingSettings(execute=protocol.execute)  # whose drift counts
    return {
        name: PolicyPlayer(
            LocalActor(model, reuse, clock=clock, decoding=decoding),
            protocol,
            clock,
            masks if asks_masks(reuse) else None,
        )
        for name, reuse in arms.items()
    }


def local_protocol(info: PolicyInfo, bench: Bench, execute: int | None) -> Asking:
    """How a policy in this process is asked: by the contract that a daemon would give of it. Raises ConfigError."""
    return bench.asking(model_info(model_card(info).model_dump(mode="json")), execute, None)


def patches_of(model: PolicyModel) -> int:
    """Patch tokens of one camera."""
    rows, columns = model.prepare(blank_observation(model.info)).layout.patch_grid
    return rows * columns


def turned(names: Sequence[str], number: int) -> list[str]:
    """The arms, another one first for each episode."""
    first = number % len(names)
    return [*names[first:], *names[:first]]


def arm_result(task: int, played: Sequence[PlayedEpisode]) -> dict[str, Any]:
    """An arm's figures, in the ablation's words; `outcomes` has every episode in the order of its states."""
    wins = sum(episode.success for episode in played)
    answers_ms = [*chain.from_iterable(episode.answers_ms for episode in played)]
    trace = Trace(
        [*chain.from_iterable(episode.frames for episode in played)],
        drifts=[*chain.from_iterable(episode.drifts for episode in played)],
    )
    return {
        "episodes": len(played),
        "wins": wins,
        "success": wins / len(played),
        "success_ci95": wilson(wins, len(played)),
        "outcomes": {str(task): "".join(str(int(one.success)) for one in played)},
        "steps": [episode.steps for episode in played],
        **figures(trace, answers_ms),
        "answers_ms": [round(ms, 2) for ms in answers_ms],
        "drifts": [round(value, DIGITS) for value in trace.drifts],
    }
