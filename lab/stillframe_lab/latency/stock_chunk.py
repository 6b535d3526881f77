"""Plain transformers for a policy that says a chunk of actions in one pass: all rows see all rows, a head reads some.

Knows a model of ours for all before and behind the decoder: pictures, towers, prompt, state, head and statistics are
shared. The decoder runs without a mask, a cache or an output head, which is to its advantage.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from stillframe.engine.device import wait_for
from stillframe.models.openvla_oft.model import OpenVLAOFT
from stillframe.stopwatch import Clock, Stopwatch
from stillframe_lab.evaluation.macs import Work, head_work, single_pass, vision_work
from stillframe_lab.latency.race import StepResult, VariantInfo
from stillframe_lab.latency.scene import Scene, SceneFrame

NO_TOKENS = np.empty(0, np.int64)


Answer = tuple[NDArray[np.float64], dict[str, float]]  # a chunk, and what each stage took


def one_after_the_other(answers: Sequence[Answer], work: tuple[Work, ...]) -> StepResult:
    """Several robots' answers as one step. `work`: what one of them had to multiply."""
    stages_ms = {stage: sum(own[stage] for _, own in answers) for stage in answers[0][1]}
    chunks, none = tuple(chunk for chunk, _ in answers), (NO_TOKENS,) * len(answers)
    return StepResult(stages_ms, 1, 0.0, 0.0, none, work * len(answers), chunks)


class StockChunkVariant:
    """Answers with plain transformers, one robot after the other."""

    def __init__(self, entry: VariantInfo, model: OpenVLAOFT, llama: Any, clock: Clock):
        """`model`: with a head that regresses; `llama`: its decoder, see `stock.bidirectional`."""
        self.entry = entry
        self._model, self._llama, self._clock = model, llama, clock

    def before(self, scene: Scene, turn: int) -> None:
        """Nothing."""

    def after(self) -> None:
        """Nothing."""

    @torch.inference_mode()
    def __call__(self, shots: Sequence[SceneFrame]) -> StepResult:
        """JPEGs and state to a chunk of actions, of each robot in turn."""
        answers = [self._answer(shot) for shot in shots]
        return one_after_the_other(answers, self._work())

    def _answer(self, shot: SceneFrame) -> Answer:
        """[horizon, action_dim] in the robot's units, and what each stage took."""
        model, watch = self._model, Stopwatch(self._clock, wait_for(self._model.device))
        observation = shot.of_policy(model.info)
        watch.lap("decode image")
        prepared = model.prepare(observation)
        watch.lap("prepare")
        (rows,) = model.embed([prepared])
        watch.lap("vision")
        self._rows = len(rows)
        hidden = self._llama.model(inputs_embeds=rows[None], use_cache=False).last_hidden_state[0]
        watch.lap("prefill")
        before = prepared.layout.action.start - 1  # each number is read from the row before its place
        assert model.head is not None  # noqa: S101 -- as it was asked for
        normalised = model.head(hidden[before : before + model.oft.action_rows]).double().cpu().numpy()
        chunk = model.statistics.scales[prepared.unnorm_key].unnormalise(normalised)
        watch.lap("verify")
        return chunk, watch.laps_ms

    def _work(self) -> tuple[Work, ...]:
        """The work of one frame: every row goes through every layer."""
        config, size = self._model.decoder.config, self._model.dtype.itemsize
        decoder = single_pass(config, self._rows, [0] * config.num_hidden_layers, self._rows, 0, size)
        return (vision_work(self._model, size), decoder, *head_work(self._model, size))
