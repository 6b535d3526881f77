"""Play the moment that the figure of the two memories shows: an episode up to the first free steps of the arm.

Knows the simulator, history and reuse; drawn by two_memories_figure.py.
"""

from __future__ import annotations

import time
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import numpy as np

from stillframe.engine.history import SCORERS
from stillframe.history.checkpoint import HistoryWeights
from stillframe.models.base import PolicyModel
from stillframe_client.sim import JacoEnv, SensorNoise
from stillframe_lab.ablation.filmstrip import strip_frame
from stillframe_lab.evaluation.actors import LocalActor
from stillframe_lab.history.arms import GATE, history_of
from stillframe_lab.history.cell import TASK
from stillframe_lab.history.plan import BUDGET, NOISE_SIGMA, SHORT, HistoryPlan
from stillframe_lab.history.recording_scorer import RecordingScorer
from stillframe_lab.history.two_memories_figure import Moment, OlderFrame, draw
from stillframe_lab.history.utility import InspectableHistory

FREE_STEPS = 6  # free steps before the figure is drawn
DROPPED = 5  # shown of the frames that were dropped


def write_figure(file: Path, plan: HistoryPlan, model: PolicyModel, weights: HistoryWeights) -> None:
    """Play it and draw it."""
    draw(play_moment(plan, model, weights)).save(file)


def play_moment(plan: HistoryPlan, model: PolicyModel, weights: HistoryWeights) -> Moment:
    """Play an episode up to the first free steps of the arm, with history and reuse."""
    settings = history_of(GATE, BUDGET, weights.config, plan.history)
    recorder = RecordingScorer(SCORERS[settings.gate](weights))
    recalling = InspectableHistory(model, weights, settings, time.perf_counter, recorder)
    reusing = replace(plan.reuse, mode="adaptive")  # in any deployment
    actor, seen, held = LocalActor(model, reusing, recalling=recalling), [], set()
    actor.reset()
    with closing(JacoEnv(TASK, noise=SensorNoise(sigma=NOISE_SIGMA), delay=SHORT, variant=plan.variant)) as env:
        observed, _ = env.reset(seed=plan.seed)
        free = 0
        while free < FREE_STEPS:
            held = set() if recalling.past is None else set(recalling.past.history.held_frames.tolist())
            seen.append(next(iter(observed["images"].values())))
            free += not env.frozen
            action = actor(observed)
            if free == FREE_STEPS:
                reused = ~strip_frame(model, actor, observed, len(seen)).recomputed
            actor.rest()
            observed, *_ = env.step(action)
    older = [
        OlderFrame(step, seen[step - 1], recorder.utilities[step - 1], step in held) for step in range(1, len(seen))
    ]
    past = recalling.past
    return Moment(select_shown(older), len(older), seen[-2], seen[-1], reused, past.history.shape.nbytes if past else 0)


def select_shown(older: list[OlderFrame]) -> list[OlderFrame]:
    """All frames that are kept, and a few of the others, evenly spread."""
    dropped = [one for one in older if not one.kept]
    spread = np.linspace(0, len(dropped) - 1, min(DROPPED, len(dropped))).round().astype(int)
    shown = {dropped[index].step for index in spread}
    return [one for one in older if one.kept or one.step in shown]
