"""Utilities of every frame of one episode by the gate and by the linear scorer, and which frames are held at its end.

Knows the simulator; the gate's arm acts, the linear scorer sees the same frames.
"""

from __future__ import annotations

import base64
import io
import time
from contextlib import closing
from typing import Any

import PIL.Image

from stillframe.engine.history import SCORERS, HistoryManager, SessionHistory
from stillframe.history.checkpoint import HistoryWeights
from stillframe.models.base import PolicyModel
from stillframe_client.sim import JacoEnv, SensorNoise
from stillframe_client.sim.table_env import Observed
from stillframe_lab.evaluation.actors import LocalActor
from stillframe_lab.history.arms import GATE, LINEAR, history_of
from stillframe_lab.history.cell import NOTHING_REUSED, TASK
from stillframe_lab.history.plan import BUDGET, MIDDLE, NOISE_SIGMA, HistoryPlan
from stillframe_lab.history.recording_scorer import RecordingScorer

THUMB_PX = 112


class InspectableHistory(HistoryManager):
    """Keeps the history of the last episode accessible after its end."""

    past: SessionHistory | None = None

    def begin(self) -> SessionHistory:
        """An episode begins."""
        self.past = super().begin()
        return self.past


def utilities(plan: HistoryPlan, model: PolicyModel, weights: HistoryWeights) -> dict[str, Any]:
    """One episode at the middle delay: flashes, utilities by arm, frames held at its end, and a few pictures."""
    listening = {arm: _ScoredArm(plan, model, weights, arm) for arm in (GATE, LINEAR)}
    lit: list[Any] = []
    seen: list[Observed] = []
    noise = SensorNoise(sigma=NOISE_SIGMA)
    with closing(JacoEnv(TASK, noise=noise, delay=MIDDLE, variant=plan.variant)) as env:
        observed, info = env.reset(seed=plan.seed)
        free, over = 0, False
        while not over:
            lit.append(env.lit)
            seen.append(observed)
            free += env.frozen
            actions = {arm: one.actor(observed) for arm, one in listening.items()}
            observed, _, terminated, truncated, info = env.step(actions[GATE])
            over = terminated or truncated
    flashes = _flashes(lit)
    chosen = sorted({*((one["first"] + one["last"]) // 2 for one in flashes), free + 1, len(seen)})
    return {
        "variant": plan.variant,
        "seed": plan.seed,
        "delay": MIDDLE,
        "chunks": BUDGET,
        "success": info["success"],
        "steps": len(seen),
        "free_from": free + 1,
        "flashes": flashes,
        "arms": {arm: one.figures() for arm, one in listening.items()},
        "shots": [{"step": step, "png": _png(seen[step - 1])} for step in chosen],
    }


class _ScoredArm:
    """One arm's actor and its recorded scorer."""

    def __init__(self, plan: HistoryPlan, model: PolicyModel, weights: HistoryWeights, arm: str):
        settings = history_of(arm, BUDGET, weights.config, plan.history)
        self._recorder = RecordingScorer(SCORERS[settings.gate](weights))
        self._recalling = InspectableHistory(model, weights, settings, time.perf_counter, self._recorder)
        self.actor = LocalActor(model, NOTHING_REUSED, recalling=self._recalling)
        self.actor.reset()

    def figures(self) -> dict[str, Any]:
        """Utilities in the frames' order, and which of the frames, counted from 1, are held."""
        past = self._recalling.past
        held = [] if past is None else sorted(set(past.history.held_frames.tolist()))
        return {"utilities": [round(value, 4) for value in self._recorder.utilities], "held": held}


def _flashes(lit: list[Any]) -> list[dict[str, Any]]:
    """Consecutive frames that show the same, counted from 1, both ends included."""
    found: list[dict[str, Any]] = []
    for step, flash in enumerate(lit, start=1):
        before = lit[step - 2] if step > 1 else None
        if flash is None:
            continue
        if flash == before:
            found[-1]["last"] = step
        else:
            found.append({"first": step, "last": step, "colour": flash.colour, "meant": flash.marked})
    return found


def _png(observed: Observed) -> str:
    """A small picture as text."""
    picture = PIL.Image.fromarray(next(iter(observed["images"].values()))).resize((THUMB_PX, THUMB_PX))
    buffer = io.BytesIO()
    picture.save(buffer, "png")
    return base64.b64encode(buffer.getvalue()).decode("ascii")
