"""Recorded frames, played again: what each set of knobs would have reused, and at what drift.

Knows the engine's scheduler and the decoder; not how knobs are chosen. What is the same for every candidate
(views, the towers' rows, the dense answer) is computed once and kept: about half a megabyte a frame for a small policy.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from math import inf

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from stillframe.engine.action_check import ActionCheck
from stillframe.engine.drift import drift_of
from stillframe.engine.kv_slots import kv_shape
from stillframe.engine.scheduler import Scheduler
from stillframe.engine.session_state import ScheduledFrame
from stillframe.errors import RequestError, StillframeError
from stillframe.models.base import Decoded, PolicyModel
from stillframe.models.llama.attention_probe import TextAttentionProbe
from stillframe.models.llama.draft import Draft
from stillframe.models.runner import ModelRunner
from stillframe.recording.frame import RecordedFrame
from stillframe.reuse.kv import FrameKV
from stillframe.reuse.plan import ReusePlan
from stillframe.reuse.policies import recipe_of
from stillframe.reuse.relevance import Relevance
from stillframe.reuse.settings import AdaptiveSettings, ReuseSettings
from stillframe.reuse.state import Remembered
from stillframe.tools.calibration.candidates import Outcome

Advance = Callable[[], None]  # called after each frame
Layers = tuple[int, ...]


@dataclass(frozen=True)
class Scene:
    """One recorded frame, ready for any plan."""

    frame: ScheduledFrame
    dense: NDArray[np.float64]  # [horizon, action_dim]: the answer of a dense pass, normalised
    begins: bool  # the first of its episode


class Rehearsal:
    """One checkpoint and the scenes to play. One thread."""

    def __init__(self, model: PolicyModel, settings: ReuseSettings):
        self._model, self._runner = model, ModelRunner.eager(model)
        self._actions = ActionCheck(model.info)
        self._layers = model.decoder.config.num_hidden_layers
        pixels = replace(settings, adaptive=replace(settings.adaptive, criterion="pixels"))
        # Its frames hold what either criterion compares; each names its own time.
        self._scheduler = Scheduler(model, pixels, lambda: 0.0)
        self.scenes: list[Scene] = []

    @property
    def camera_tokens(self) -> int:
        """Patch tokens of the largest camera."""
        return max(len(places) for places in self.scenes[0].frame.prepared.layout.patches.values())

    @torch.inference_mode()
    def add(self, episode: Iterable[RecordedFrame], advance: Advance) -> None:
        """Prepare an episode's frames and answer them densely. Raises StillframeError for what the model cannot see."""
        begins = True
        for recorded in episode:
            frame = self._frame(recorded)
            dense = self._whole(frame)
            decoded = self._pass(dense, self._storage(frame.total_rows))
            self.scenes.append(Scene(frame, decoded.normalised, begins))
            begins = False
            advance()

    @torch.inference_mode()
    def with_slack(
        self, candidates: Sequence[AdaptiveSettings], advance: Advance, budget: float = inf
    ) -> list[Outcome]:
        """Every candidate, where a pause after each answer lets the dense pass refresh KV and relevance.

        What a frame finds is then the same for all, so one dense pass a frame serves any number of candidates.
        One that cannot keep its drift p90 within `budget` any more is given up: it knows the frames until then.
        """
        outcomes = [Outcome(knobs) for knobs in candidates]
        chosen = {tuple(knobs.relevance_layers) for knobs in candidates if knobs.task_top_k}
        dense, own = self._storage(), self._storage()
        left: Remembered | None = None
        looks: dict[Layers, Relevance] = {}
        for scene in self.scenes:
            drifts: dict[bytes, float] = {}
            for outcome in outcomes:
                if outcome.hopeless(budget, len(self.scenes)):
                    continue
                knobs = outcome.knobs
                relevance = looks[tuple(knobs.relevance_layers)] if looks and knobs.task_top_k else None
                frame = self._with(scene.frame, knobs)
                attended = frame.attended(relevance)
                found = None if left is None or scene.begins else replace(left, attended=attended)
                self._scheduler.plan(frame, found)
                same = _drops(frame.plan)
                if frame.keyframe is None and same not in drifts:  # other knobs often come to the same plan
                    own.copy_(dense)
                    drifts[same] = drift_of(self._pass(frame, own).normalised, scene.dense)
                outcome.saw(frame.plan.reuse_ratio, None if frame.keyframe else drifts[same])
            looks, left = self._look(scene.frame, dense, chosen)
            advance()
        return outcomes

    @torch.inference_mode()
    def without_slack(self, knobs: AdaptiveSettings, advance: Advance) -> Outcome:
        """One candidate on a daemon that never rests: only age limit and keyframes renew what is reused."""
        outcome, own = Outcome(knobs), self._storage()
        left: Remembered | None = None
        for scene in self.scenes:
            frame = self._with(scene.frame, knobs)
            self._scheduler.plan(frame, None if scene.begins else left)
            decoded = self._pass(frame, own)
            left, _ = frame.reuse_state(left, frame.now_s)
            if frame.probe is not None:
                left.attended = frame.attended(frame.probe.relevance(frame.kv))
            outcome.saw(frame.plan.reuse_ratio, None if frame.keyframe else drift_of(decoded.normalised, scene.dense))
            advance()
        return outcome

    def _frame(self, recorded: RecordedFrame) -> ScheduledFrame:
        """What planning sees of it, without the pictures themselves."""
        try:
            prepared = self._model.prepare(recorded.observation)
        except RequestError as error:
            raise StillframeError(f"this checkpoint cannot answer what was recorded: {error}") from error
        (rows,) = self._model.embed([prepared])
        draft = Draft(prepared.no_motion_tokens)
        frame = self._scheduler.planner.frame(
            recorded.observation, prepared, rows, "adaptive", recorded.submitted_s, draft
        )
        light = replace(prepared, views={}, pixels=prepared.pixels.new_empty(0))
        return replace(frame, prepared=light)

    def _with(self, frame: ScheduledFrame, knobs: AdaptiveSettings) -> ScheduledFrame:
        """The same frame, to be planned by other knobs."""
        policy = recipe_of("adaptive", ReuseSettings(adaptive=knobs), self._layers)
        return replace(frame, policy=policy, draft=Draft(frame.prepared.no_motion_tokens))

    def _whole(self, frame: ScheduledFrame) -> ScheduledFrame:
        """The same frame, computed whole."""
        dense = replace(frame, draft=Draft(frame.prepared.no_motion_tokens))
        dense.plan = self._scheduler.planner.whole(dense)
        return dense

    def _pass(self, frame: ScheduledFrame, storage: Tensor) -> Decoded:
        """Prefill by the frame's plan and decode, over what `storage` holds of the reused rows."""
        frame.kv = FrameKV(storage)
        (hidden,) = self._runner.decoder.forward([frame.prompt(self._model.decoder)])
        (decoded,) = self._runner.act([frame.prefilled(hidden)])
        refusal = self._actions.refusal(frame.prepared, decoded, frame.draft.faults)
        if refusal is not None:
            raise StillframeError(f"this checkpoint does not answer what was recorded with an action: {refusal}")
        return decoded

    def _look(
        self, frame: ScheduledFrame, storage: Tensor, chosen: Iterable[Layers]
    ) -> tuple[dict[Layers, Relevance], Remembered]:
        """A dense prefill into `storage`: where its text looked, for each choice of layers; what it leaves."""
        taps, dense = {layers: self._tap(frame, layers) for layers in chosen}, self._whole(frame)
        dense.kv = FrameKV(storage)
        self._runner.decoder.prefill(dense.rows, dense.plan, dense.kv, _Taps([*taps.values()]))
        left, _ = dense.reuse_state(None, dense.now_s)
        return {layers: each.relevance(dense.kv) for layers, each in taps.items()}, left

    def _tap(self, frame: ScheduledFrame, layers: Layers) -> TextAttentionProbe:
        return TextAttentionProbe(self._model.decoder, frame.prepared.layout, layers, every_layer=False)

    def _storage(self, rows: int | None = None) -> Tensor:
        """Room for one sequence: of `rows` tokens, or as many as the longest scene has."""
        longest = rows or max(scene.frame.prepared.layout.total_rows for scene in self.scenes)
        return replace(kv_shape(self._model, 1), capacity=longest).allocate()


@dataclass(frozen=True)
class _Taps:
    """Several taps of one prompt, as one."""

    taps: Sequence[TextAttentionProbe]
    text_rows: int | None = None

    def __call__(self, layer: int, rows: Tensor) -> None:
        """Let each see the rows that enter a layer."""
        for tap in self.taps:
            tap(layer, rows)


def _drops(plan: ReusePlan) -> bytes:
    """For each of the prompt's rows the first layer that reuses it: equal for plans that compute the same."""
    first = np.full(plan.rows, len(plan.counts), np.uint8)
    for layer, count in reversed([*enumerate(plan.counts)]):
        first[plan.order[:count].cpu().numpy()] = layer
    return first.tobytes()
