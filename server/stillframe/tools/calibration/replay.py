"""Replay recorded frames: what each candidate's settings would have reused, and at what drift.

Knows planner, decoder and KV storage, as the engine does; not how candidates are chosen. What all candidates share
(views, vision rows, the dense answer) is computed once and kept: about half a megabyte a frame for a small policy.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from math import inf

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from stillframe.engine.action_check import Bounds
from stillframe.engine.drift import drift_of
from stillframe.engine.kv_slots import kv_shape
from stillframe.engine.planner import Frame, Planner
from stillframe.errors import RequestError, StillframeError
from stillframe.models.base import Decoded, PolicyModel, Prefilled
from stillframe.models.llama.attention_probe import TextTap
from stillframe.models.llama.runner import prefill
from stillframe.models.llama.speculative import Draft
from stillframe.recording.frame import RecordedFrame
from stillframe.reuse.kv import FrameKV
from stillframe.reuse.plan import ReusePlan
from stillframe.reuse.policies import recipe_of
from stillframe.reuse.relevance import Relevance
from stillframe.reuse.settings import AdaptiveSettings, ReuseSettings
from stillframe.reuse.state import Remembered
from stillframe.tools.calibration.candidates import CandidateResult

Advance = Callable[[], None]  # called after each frame
Layers = tuple[int, ...]


@dataclass(frozen=True)
class ReplayFrame:
    """One recorded frame, prepared and embedded, with its dense answer."""

    frame: Frame
    dense: NDArray[np.float64]  # [horizon, action_dim]: the dense answer, normalised
    begins: bool  # whether it is the first of its episode


class EpisodeReplay:
    """One checkpoint and the frames to replay. Single-threaded."""

    def __init__(self, model: PolicyModel, settings: ReuseSettings):
        self._model = model
        self._bounds = Bounds(model.info)
        self._layers = model.decoder.config.num_hidden_layers
        pixels = replace(settings, adaptive=replace(settings.adaptive, criterion="pixels"))
        self._planner = Planner(pixels, self._layers)  # so that frames hold what both criteria compare
        self.frames: list[ReplayFrame] = []

    @property
    def camera_tokens(self) -> int:
        """Patch tokens of the largest camera."""
        return max(len(places) for places in self.frames[0].frame.prepared.layout.patches.values())

    @torch.inference_mode()
    def add(self, episode: Iterable[RecordedFrame], advance: Advance) -> None:
        """Prepare an episode's frames and answer them densely. Raises StillframeError for frames the model refuses."""
        begins = True
        for recorded in episode:
            frame = self._frame(recorded)
            decoded, _ = self._pass(frame, self._planner.whole(frame), self._storage(frame.prepared.layout.total_rows))
            self.frames.append(ReplayFrame(frame, decoded.normalised, begins))
            begins = False
            advance()

    @torch.inference_mode()
    def with_slack(
        self, candidates: Sequence[AdaptiveSettings], advance: Advance, budget: float = inf
    ) -> list[CandidateResult]:
        """Replay for every candidate, with a dense refresh of KV and relevance in the pause after each answer.

        The cache that a frame finds is then the same for all, so one dense pass a frame serves all candidates.
        A candidate whose drift p90 must exceed `budget` is abandoned: its result covers the frames until then.
        """
        results = [CandidateResult(knobs) for knobs in candidates]
        chosen = {tuple(knobs.relevance_layers) for knobs in candidates if knobs.task_top_k}
        dense, own = self._storage(), self._storage()
        left: Remembered | None = None
        relevances: dict[Layers, Relevance] = {}
        for each in self.frames:
            drifts: dict[bytes, float] = {}
            for result in results:
                if result.exceeds(budget, len(self.frames)):
                    continue
                knobs = result.knobs
                relevance = relevances[tuple(knobs.relevance_layers)] if relevances and knobs.task_top_k else None
                frame = self._with(each.frame, knobs)
                attended = frame.attended(relevance)
                found = None if left is None or each.begins else replace(left, attended=attended)
                plan, keyframe = self._planner.plan(frame, found, None, caution=0.0)
                same = _computed_rows(plan)
                if keyframe is None and same not in drifts:  # other knobs often come to the same plan
                    own.copy_(dense)
                    drifts[same] = drift_of(self._pass(frame, plan, own)[0].normalised, each.dense)
                result.add(plan.reuse_ratio, None if keyframe else drifts[same])
            relevances = self._refresh(each.frame, dense, chosen)
            left = Remembered.fresh(FrameKV(dense), each.frame.same, each.frame.tokens, each.frame.now_s)
            advance()
        return results

    @torch.inference_mode()
    def without_slack(self, knobs: AdaptiveSettings, advance: Advance) -> CandidateResult:
        """Replay for one candidate without pauses: only age limit and keyframes refresh what is reused."""
        result, own = CandidateResult(knobs), self._storage()
        left: Remembered | None = None
        for each in self.frames:
            frame = self._with(each.frame, knobs)
            plan, keyframe = self._planner.plan(frame, None if each.begins else left, None, caution=0.0)
            tap = self._tap(frame, tuple(knobs.relevance_layers)) if keyframe and knobs.task_top_k else None
            decoded, kv = self._pass(frame, plan, own, tap)
            if left is None or keyframe is not None:
                left = Remembered.fresh(kv, frame.same, frame.tokens, frame.now_s)
                left.attended = frame.attended(tap.relevance(kv) if tap else None)
            else:
                left.advance(plan, frame.tokens, frame.now_s, published=False)
            result.add(plan.reuse_ratio, None if keyframe else drift_of(decoded.normalised, each.dense))
            advance()
        return result

    def _frame(self, recorded: RecordedFrame) -> Frame:
        """Prepare and embed a recorded frame; the pictures are dropped."""
        try:
            prepared = self._model.prepare(recorded.observation)
        except RequestError as error:
            raise StillframeError(f"this checkpoint cannot answer what was recorded: {error}") from error
        (rows,) = self._model.embed([prepared])
        frame = self._planner.frame(recorded.observation, prepared, rows, "adaptive", recorded.submitted_s)
        light = replace(prepared, views={}, pixels=prepared.pixels.new_empty(0))
        return replace(frame, prepared=light)

    def _with(self, frame: Frame, knobs: AdaptiveSettings) -> Frame:
        return replace(frame, recipe=recipe_of("adaptive", ReuseSettings(adaptive=knobs), self._layers))

    def _pass(
        self, frame: Frame, plan: ReusePlan, storage: Tensor, tap: TextTap | None = None
    ) -> tuple[Decoded, FrameKV]:
        """Prefill by `plan` and decode, reusing the KV in `storage`."""
        kv = FrameKV(storage)
        draft = Draft(frame.prepared.still)
        hidden = prefill(self._model.decoder, frame.rows, plan, kv, tap, draft.fed)
        (decoded,) = self._model.act([Prefilled(frame.prepared, hidden, kv, draft)])
        refusal = self._bounds.refusal(frame.prepared, decoded, draft.faults)
        if refusal is not None:
            raise StillframeError(f"this checkpoint does not answer what was recorded with an action: {refusal}")
        return decoded, kv

    def _refresh(self, frame: Frame, storage: Tensor, chosen: Iterable[Layers]) -> dict[Layers, Relevance]:
        """A dense prefill into `storage`; the text's attention for each choice of layers."""
        taps = {layers: self._tap(frame, layers) for layers in chosen}

        def tap(layer: int, rows: Tensor) -> None:
            for each in taps.values():
                each(layer, rows)

        kv = FrameKV(storage)
        prefill(self._model.decoder, frame.rows, self._planner.whole(frame), kv, tap)
        return {layers: each.relevance(kv) for layers, each in taps.items()}

    def _tap(self, frame: Frame, layers: Layers) -> TextTap:
        return TextTap(self._model.decoder, frame.prepared.layout, layers, every_layer=False)

    def _storage(self, rows: int | None = None) -> Tensor:
        """KV storage for one sequence of `rows` tokens; None: of the longest frame."""
        longest = rows or max(each.frame.prepared.layout.total_rows for each in self.frames)
        return replace(kv_shape(self._model, 1), capacity=longest).allocate()


def _computed_rows(plan: ReusePlan) -> bytes:
    """For each prompt row the first layer that reuses it: equal for plans that compute the same."""
    first = np.full(plan.rows, len(plan.counts), np.uint8)
    for layer, count in reversed([*enumerate(plan.counts)]):
        first[plan.order[:count].cpu().numpy()] = layer
    return first.tobytes()
