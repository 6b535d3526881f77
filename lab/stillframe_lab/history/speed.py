"""Time a step of each arm after a long delay, in turn on the same pictures.

Knows the simulator, for its pictures, and one thread; no closed loop.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import closing
from dataclasses import replace
from statistics import fmean, median
from typing import Any

from stillframe.engine.history import SCORERS, HistoryManager
from stillframe.history.checkpoint import HistoryWeights
from stillframe.models.base import PolicyModel
from stillframe.reuse.settings import ReuseSettings
from stillframe.tools.machine import machine
from stillframe_client.sim import JacoEnv, SensorNoise
from stillframe_lab.evaluation.actors import LocalActor
from stillframe_lab.evaluation.race import Observed, Timed, turns
from stillframe_lab.evaluation.trace import DECODER
from stillframe_lab.history.arms import ARMS, FULL, GATE, OFF, RAW, history_of
from stillframe_lab.history.cell import NOTHING_REUSED, TASK
from stillframe_lab.history.plan import BUDGET, LONG, NOISE_SIGMA, HistoryPlan
from stillframe_lab.history.recording_scorer import RecordingScorer

TIMED_FRAMES = 40  # from the first on at which the arm is free
NO_GAP_S = 3600.0  # other arms' steps are no gap
HISTORY_STAGES = ("plan", "keep")  # of a step, in which history is read and written


def race_arms(plan: HistoryPlan, model: PolicyModel, weights: HistoryWeights) -> dict[str, Any]:
    """Figures of every arm and raw in both reuse modes, the gate's own time, and the number of frames."""
    pictures, lead = frames(plan)
    load = machine()["load_average"]
    recorder = RecordingScorer(SCORERS[GATE](weights))
    ways = {"off": NOTHING_REUSED, "adaptive": replace(plan.reuse, mode="adaptive", slack=True, gap_s=NO_GAP_S)}
    actors = {
        (mode, arm): _actor(plan, model, weights, reuse, arm, recorder if (mode, arm) == ("off", GATE) else None)
        for mode, reuse in ways.items()
        for arm in (*ARMS, RAW)
    }
    rounds = [answers for number, answers in enumerate(turns(actors, pictures, time.thread_time)) if number >= lead]
    modes = {mode: _compared({arm: _row([one[mode, arm] for one in rounds]) for arm in (*ARMS, RAW)}) for mode in ways}
    step_ms = modes["off"][GATE]["step_ms"]
    return {
        "delay": LONG,
        "chunks": BUDGET,
        "frames": len(rounds),
        "load_average": load,
        "modes": modes,
        "gate": {
            "score_ms": median(recorder.took_ms[lead:]),
            "share": median(recorder.took_ms[lead:]) / step_ms,
            "history_ms": modes["off"][GATE]["history_ms"] - modes["off"][OFF]["history_ms"],
        },
    }


def frames(plan: HistoryPlan) -> tuple[list[Observed], int]:
    """The observations of an episode that the expert plays, and how many come before the arm is free."""
    pictures: list[Observed] = []
    noise = SensorNoise(sigma=NOISE_SIGMA)
    with closing(JacoEnv(TASK, noise=noise, delay=LONG, variant=plan.variant)) as env:
        observed, _ = env.reset(seed=plan.seed)
        lead, over = 0, False
        while not over and len(pictures) < lead + TIMED_FRAMES:
            pictures.append(observed)
            lead += env.frozen
            observed, _, terminated, truncated, _ = env.step(env.expert())
            over = terminated or truncated
    return pictures, lead


def raw(weights: HistoryWeights) -> HistoryWeights:
    """Weights that pool nothing: a slot for each image token."""
    return HistoryWeights(replace(weights.config, chunk_tokens=1, slots=1))


def _actor(
    plan: HistoryPlan,
    model: PolicyModel,
    weights: HistoryWeights,
    reuse: ReuseSettings,
    arm: str,
    scorer: RecordingScorer | None,
) -> LocalActor:
    recalling = None
    if arm != OFF:
        own = raw(weights) if arm == RAW else weights
        chunks = None if arm in (FULL, RAW) else BUDGET
        settings = history_of(FULL if arm == RAW else arm, chunks, own.config, plan.history)
        recalling = HistoryManager(model, own, settings, time.perf_counter, scorer)
    return LocalActor(model, reuse, measure_every=0, clock=time.thread_time, recalling=recalling)


def _row(timed: Sequence[Timed]) -> dict[str, Any]:
    """Medians of CPU time; in a mode that reuses, of delta frames."""
    counted = [(ms, frame) for ms, frame in timed if frame.keyframe_reason in (None, "off")] or [*timed]
    answered = [frame for _, frame in counted]
    return {
        "frames": len(counted),
        "step_ms": median(ms for ms, _ in counted),
        "decoder_ms": median(sum(frame.stages_ms[name] for name in DECODER) for frame in answered),
        "prefill_ms": median(frame.stages_ms["prefill"] for frame in answered),
        "history_ms": median(sum(frame.stages_ms[name] for name in HISTORY_STAGES) for frame in answered),
        "passes": fmean(frame.passes or 0 for frame in answered),
        "reuse_ratio": fmean(frame.reuse_ratio for frame in answered),
        "gmacs": fmean(frame.gmacs or 0.0 for frame in answered),
        "bytes": answered[-1].history.nbytes if answered[-1].history else 0,
        "slots": answered[-1].history.slots if answered[-1].history else 0,
    }


def _compared(rows: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """Add ratios of full history's and raw's figures to each arm's."""
    for row in rows.values():
        for other in (FULL, RAW):
            for key in ("decoder_ms", "prefill_ms", "step_ms", "bytes"):
                row[f"{other}_{key}_ratio"] = rows[other][key] / row[key] if row[key] else None
    return rows
