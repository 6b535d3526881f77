"""Replay recorded frames: what each candidate's settings would have reused, and at what drift.

Knows the engine's scheduler and the decoder; not how candidates are chosen. What all candidates share
(views, vision rows, the dense answer) is computed once and kept: about half a megabyte a frame for a small policy.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from math import inf

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from stillframe.domain import KeyframeReason
from stillframe.engine.action_check import ActionCheck
from stillframe.engine.answers import ChunkAnswers
from stillframe.engine.drift import Caution, drift_by_action
from stillframe.engine.kv_slots import kv_shape
from stillframe.engine.scheduler import Scheduler
from stillframe.engine.selector import open_selector
from stillframe.engine.session_state import ScheduledFrame
from stillframe.errors import RequestError, StillframeError
from stillframe.models.base import Decoded, PolicyModel, Prepared
from stillframe.models.llama.draft import Draft
from stillframe.models.runner import ModelRunner
from stillframe.recording.frame import RecordedFrame
from stillframe.reuse.kv import FrameKV
from stillframe.reuse.plan import ReusePlan
from stillframe.reuse.policies import reuse_policy
from stillframe.reuse.relevance import Relevance
from stillframe.reuse.settings import AdaptiveSettings, ReuseSettings
from stillframe.reuse.state import ReuseState
from stillframe.tools.calibration.candidates import CandidateResult

STATELESS = "; recordings hold the state where the policy that was served reads one: record sessions of this checkpoint"
ALL_ACTIONS = ChunkAnswers()
NO_TOKENS = np.empty(0, np.int64)
Advance = Callable[[], None]  # called after each frame
Layers = tuple[int, ...]


@dataclass(frozen=True)
class ReplayFrame:
    """One recorded frame, prepared and embedded, with its dense answer."""

    frame: ScheduledFrame
    dense: NDArray[np.float64]  # [horizon, action_dim]: the dense answer, normalised
    begins: bool  # whether it is the first of its episode


class EpisodeReplay:
    """One checkpoint and the frames to replay; `answers`: what is to be played of them. Single-threaded."""

    def __init__(self, model: PolicyModel, settings: ReuseSettings, answers: ChunkAnswers = ALL_ACTIONS):
        self._answers = answers
        self._model, self._runner = model, ModelRunner.eager(model)
        self._actions = ActionCheck(model.info)
        self._layers = model.decoder.config.num_hidden_layers
        self._settings, self._selector = settings, open_selector(model, settings.adaptive)
        pixels = replace(settings, adaptive=replace(settings.adaptive, criterion="pixels", selector=None))
        # Its frames hold what either criterion compares; each names its own time.
        self._scheduler = Scheduler(model, pixels, lambda: 0.0)
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
            dense = self._whole(frame)
            decoded = self._pass(dense, self._storage(frame.total_rows))
            self.frames.append(ReplayFrame(frame, decoded.normalised, begins))
            begins = False
            advance()

    @torch.inference_mode()
    def with_slack(
        self, candidates: Sequence[AdaptiveSettings], advance: Advance, budget: float = inf, bound: float = inf
    ) -> list[CandidateResult]:
        """Replay for every candidate, with a dense refresh of KV and relevance in the pause after each answer.

        The cache that a frame finds is then the same for all, so one dense pass a frame serves all candidates.
        A candidate whose drift p90 must exceed `budget` is abandoned: its result covers the frames until then.
        `bound`: the budget that the drift controller of a served session holds it to; inf: as configured, unbounded.
        """
        tried = [_Tried(CandidateResult(knobs), Caution(bound)) for knobs in candidates]
        chosen = {tuple(knobs.relevance_layers): knobs for knobs in candidates if _asks(knobs)}
        dense, own = self._storage(), self._storage()
        left: ReuseState | None = None
        relevances: dict[Layers, Relevance] = {}
        for each in self.frames:
            drifts: dict[bytes, float] = {}
            for one in tried:
                if one.result.exceeds(budget, len(self.frames)):
                    continue
                knobs = one.result.knobs
                relevance = relevances[tuple(knobs.relevance_layers)] if relevances and _asks(knobs) else None
                frame = self._with(each.frame, knobs)
                attended = frame.attended(relevance)
                found = None if left is None or each.begins else replace(left, task_relevance=attended)
                self._scheduler.plan(frame, found, one.cause, one.caution.level)
                same = _computed_rows(frame.plan)
                if frame.keyframe is None and same not in drifts:  # other knobs often come to the same plan
                    own.copy_(dense)
                    drifts[same] = self._drift(self._pass(frame, own), each)
                one.add(frame.plan.reuse_ratio, None if frame.keyframe else drifts[same])
            relevances, left = self._refresh(each.frame, dense, chosen)
            advance()
        return [one.result for one in tried]

    @torch.inference_mode()
    def without_slack(self, knobs: AdaptiveSettings, advance: Advance) -> CandidateResult:
        """Replay for one candidate without pauses: only age limit and keyframes refresh what is reused."""
        result, own = CandidateResult(knobs), self._storage()
        left: ReuseState | None = None
        for each in self.frames:
            frame = self._with(each.frame, knobs)
            self._scheduler.plan(frame, None if each.begins else left)
            decoded = self._pass(frame, own)
            left, _ = frame.reuse_state(left, frame.now_s)
            if frame.probe is not None:
                left.task_relevance = frame.attended(frame.probe.relevance(frame.kv))
            result.add(frame.plan.reuse_ratio, None if frame.keyframe else self._drift(decoded, each))
            advance()
        return result

    def _frame(self, recorded: RecordedFrame) -> ScheduledFrame:
        """Prepare and embed a recorded frame; the pictures are dropped. Each has noise of its own, if any is drawn."""
        recorded.check_pictures()
        try:
            prepared = self._model.prepare(recorded.observation)
        except RequestError as error:
            hint = STATELESS if error.code == "missing-state" else ""
            raise StillframeError(
                f"this checkpoint cannot answer what was recorded, frame {recorded.name}: {error}{hint}"
            ) from error
        (rows,) = self._model.embed([prepared])
        draft = _no_motion(prepared)
        frame = self._scheduler.planner.frame(
            recorded.observation, prepared, rows, "adaptive", recorded.submitted_s, draft
        )
        light = replace(prepared, views={}, pixels=prepared.pixels.new_empty(0))
        return replace(frame, prepared=light, seed=len(self.frames))

    def _with(self, frame: ScheduledFrame, knobs: AdaptiveSettings) -> ScheduledFrame:
        """The same frame, to be planned by other knobs."""
        selector = None if knobs.selector is None else self._selector
        policy = reuse_policy("adaptive", replace(self._settings, adaptive=knobs), self._layers, selector)
        return replace(frame, policy=policy, draft=_no_motion(frame.prepared))

    def _whole(self, frame: ScheduledFrame) -> ScheduledFrame:
        """The same frame, computed whole."""
        dense = replace(frame, draft=_no_motion(frame.prepared))
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

    def _refresh(
        self, frame: ScheduledFrame, storage: Tensor, chosen: Mapping[Layers, AdaptiveSettings]
    ) -> tuple[dict[Layers, Relevance], ReuseState]:
        """A dense prefill into `storage`: the attention of each choice of layers; what it leaves."""
        probes = {layers: self._scheduler.probe(self._with(frame, knobs)) for layers, knobs in chosen.items()}
        dense, taps = self._whole(frame), [probe for probe in probes.values() if probe is not None]
        dense.draft, dense.kv = Draft(NO_TOKENS), FrameKV(storage)
        on_prompt, on_expert = [tap.on_prompt for tap in taps], [tap.on_expert for tap in taps]
        prompt = replace(dense.prompt(self._model.decoder), hook=_Hooks(on_prompt))
        (hidden,) = self._runner.decoder.forward([prompt])
        if any(on_expert):
            self._runner.act([replace(dense.prefilled(hidden), expert_hook=_Hooks(on_expert))])
        left, _ = dense.reuse_state(None, dense.now_s)
        return {layers: each.relevance(dense.kv) for layers, each in probes.items() if each is not None}, left

    def _drift(self, decoded: Decoded, frame: ReplayFrame) -> float:
        """Of an answer against the frame's dense one."""
        return self._answers.drift(drift_by_action(decoded.normalised, frame.dense))

    def _storage(self, rows: int | None = None) -> Tensor:
        """KV storage for one sequence of `rows` tokens; None: of the longest frame."""
        longest = rows or max(each.frame.prepared.layout.total_rows for each in self.frames)
        return replace(kv_shape(self._model, 1), capacity=longest).allocate()


@dataclass
class _Tried:
    """A candidate in a replay with pauses, and what a session's drift controller has come to with it."""

    result: CandidateResult
    caution: Caution
    cause: KeyframeReason | None = None  # why its next frame has to be a keyframe

    def add(self, ratio: float, drift: float | None) -> None:
        """Take in one frame; `drift` None: a keyframe."""
        self.result.add(ratio, drift)
        if drift is not None:
            self.caution.record(drift)
        self.cause = KeyframeReason.DRIFT if drift is not None and self.caution.full else None


@dataclass(frozen=True)
class _Hooks:
    """Several hooks of one frame, as one; None among them: no hook."""

    hooks: Sequence[Callable[..., None] | None]

    def __call__(self, layer: int, *rows: Tensor) -> None:
        """Let each see a layer."""
        for hook in self.hooks:
            if hook is not None:
                hook(layer, *rows)


def _asks(knobs: AdaptiveSettings) -> bool:
    """Whether plans depend on attention."""
    return knobs.task_top_k > 0 or knobs.selector is not None


def _no_motion(prepared: Prepared) -> Draft:
    """A guess that has no part in the answer, to the bit: what two answers differ by is their plans' doing."""
    return Draft(prepared.no_motion_tokens, "strict")


def _computed_rows(plan: ReusePlan) -> bytes:
    """For each prompt row the first layer that reuses it: equal for plans that compute the same."""
    first = np.full(plan.rows, len(plan.counts), np.uint8)
    for layer, count in reversed([*enumerate(plan.counts)]):
        first[plan.order[:count].cpu().numpy()] = layer
    return first.tobytes()
