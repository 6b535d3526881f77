"""Samples that a selector learns from: which tokens of a frame were reused, what was known of each, what drift came.

Knows the engine's plans and the decoder; not what is learnt.

A policy that says its actions by tokens mostly says the same with a little drift as without: its tokens are bins. So
drift is measured before they are chosen, as the distance of the two distributions over bins (earth mover's), in the
same units: more often above nothing, and as large where a bin is sure.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from stillframe.engine.answers import ChunkAnswers
from stillframe.engine.kv_slots import kv_shape
from stillframe.engine.planner import BOS
from stillframe.engine.scheduler import Scheduler
from stillframe.engine.session_state import ScheduledFrame
from stillframe.errors import ConfigError
from stillframe.models.base import PolicyModel
from stillframe.models.llama.draft import Draft
from stillframe.models.llama.layout import Mask
from stillframe.models.runner import ModelRunner
from stillframe.recording.frame import RecordedFrame
from stillframe.reuse.kv import FrameKV
from stillframe.reuse.plan import ReusePlan
from stillframe.reuse.relevance import Relevance
from stillframe.reuse.selector import PatchEvidence, PatchSelector, within_drift
from stillframe.reuse.settings import AdaptiveSettings, ReuseSettings
from stillframe.reuse.similarity import Embedding
from stillframe.reuse.state import ReuseState

LONGEST_CHAIN = 3  # frames that follow a dense pass before the next
DISORDER = (0.1, 0.5, 1.0, 3.0)  # of the order in which tokens are reused, in its own standard deviations
LEAST_REUSED = 0.08  # of the tokens
DRIFTS = (0.003, 0.15)  # that a selector is asked for, from the least to the most
LIMIT = Embedding(0.0)  # only its distances are read
RANGE = 2.0  # of normalised units
ALL_ACTIONS = ChunkAnswers()
TINY = float(np.finfo(np.float32).tiny)


@dataclass(frozen=True)
class Samples:
    """Delta frames."""

    features: Tensor  # [samples, tokens, FEATURES]
    reused: Tensor  # bool [samples, tokens]
    drift: Tensor  # [samples]

    @classmethod
    def joined(cls, parts: Sequence[tuple[Tensor, Tensor, float]]) -> Samples:
        """Of one each."""
        features, reused, drift = zip(*parts, strict=True)
        return cls(torch.stack(features), torch.stack(reused), torch.tensor(drift))


@dataclass(frozen=True)
class _Dense:
    """A frame that was computed whole."""

    frame: ScheduledFrame
    storage: Tensor  # its keys and values
    draft: Draft  # its own answer
    answer: Tensor  # see `Sampler._answer`
    relevance: Relevance


class Sampler:
    """One checkpoint's samples. Single-threaded."""

    def __init__(
        self, model: PolicyModel, settings: AdaptiveSettings, answers: ChunkAnswers = ALL_ACTIONS, seed: int = 0
    ):
        """`answers`: of which actions drift counts.

        Raises ConfigError for settings that do not fit the checkpoint, or whose plans do not go by attention.
        """
        if settings.relevance == "masks":
            raise ConfigError("reuse.adaptive.relevance is 'masks', and a selector reads attention: set text or expert")
        # Its plans are not asked for; of its policy only whose attention is probed.
        asked = replace(settings, criterion="embedding", selector=None, task_top_k=1)
        self._model, self._runner, self._answers = model, ModelRunner.eager(model), answers
        self._scheduler = Scheduler(model, ReuseSettings("adaptive", adaptive=asked), lambda: 0.0)
        self._random = np.random.default_rng(seed)

    @torch.inference_mode()
    def samples(
        self, episode: Iterable[RecordedFrame], passes: int, selector: PatchSelector | None = None
    ) -> Iterator[tuple[Tensor, Tensor, float]]:
        """Play an episode so many times, with dense passes and reused tokens drawn anew: each delta frame.

        With a selector tokens are those that it would choose, for more or less drift: what it thinks too little of is
        among them.
        """
        dense = [self._whole(recorded) for recorded in episode]
        for _ in range(passes):
            at = int(self._random.integers(0, LONGEST_CHAIN + 1))
            while at < len(dense) - 1:
                deltas = dense[at + 1 : at + 1 + int(self._random.integers(1, LONGEST_CHAIN + 1))]
                yield from self._chain(dense[at], deltas, selector)
                at += len(deltas) + 1

    def _chain(
        self, first: _Dense, deltas: Sequence[_Dense], selector: PatchSelector | None
    ) -> Iterator[tuple[Tensor, Tensor, float]]:
        own, frame = first.storage.clone(), first.frame
        state = ReuseState.fresh(FrameKV(own), frame.must_match, frame.tokens, 0.0)
        for each in deltas:
            if each.frame.must_match != state.must_match:
                return
            layout, likeness = each.frame.prepared.layout, LIMIT(each.frame.tokens, state.reference)
            scores = first.relevance.scores
            evidence = PatchEvidence(likeness.distance, scores, state.ages, layout.cameras, layout.patch_grid)
            chosen = self._drawn(evidence) if selector is None else self._selected(evidence, selector)
            reused = torch.zeros(len(scores), dtype=torch.bool, device=chosen.device).index_fill_(0, chosen, value=True)
            frame = self._with(each.frame, self._plan(each.frame, chosen), own, each.draft)
            yield evidence.features().cpu(), reused.cpu(), self._drift(self._answer(frame), each.answer)
            state.advance(frame.plan, frame.tokens, 0.0, published=False)

    def _drawn(self, evidence: PatchEvidence) -> Tensor:
        """Some tokens: those that moved and are looked at least, or moved least, in more or less disorder."""
        cost = evidence.distance * evidence.scores if self._random.random() < 0.5 else evidence.distance
        order = (cost + TINY).log().cpu().numpy()
        order = (order - order.mean()) / max(float(order.std()), TINY)
        order = order + self._random.choice(DISORDER) * self._random.standard_normal(len(order))
        count = self._random.integers(round(LEAST_REUSED * len(order)), len(order) + 1)
        return torch.from_numpy(np.argsort(order)[:count].copy()).to(cost.device)

    def _selected(self, evidence: PatchEvidence, selector: PatchSelector) -> Tensor:
        """What a selector chooses, in a little disorder, for a drift that is drawn."""
        added = selector(evidence.features())
        noise = torch.from_numpy(self._random.standard_normal(len(added))).to(added)
        budget = math.exp(self._random.uniform(math.log(DRIFTS[0]), math.log(DRIFTS[1])))
        return within_drift(added * (DISORDER[0] * noise).exp(), torch.ones_like(added, dtype=torch.bool), budget)

    def _plan(self, frame: ScheduledFrame, chosen: Tensor) -> ReusePlan:
        """These tokens reused in every layer, as the planner has it."""
        whole, layout = self._scheduler.planner.whole(frame), frame.prepared.layout
        alone = int(layout.mask is Mask.CAUSAL)
        positions = functional.pad(chosen + layout.patch_positions.start, (alone, 0), value=BOS)
        return replace(whole, order=positions, counts=(len(positions),) * len(whole.counts), patches=chosen)

    def _whole(self, recorded: RecordedFrame) -> _Dense:
        """Prepare a frame, and compute it whole."""
        recorded.check_pictures()
        prepared = self._model.prepare(recorded.observation)
        (rows,) = self._model.embed([prepared])
        guess = Draft(prepared.no_motion_tokens, "strict")
        frame = self._scheduler.planner.frame(recorded.observation, prepared, rows, "adaptive", 0.0, guess)
        storage = replace(kv_shape(self._model, 1), capacity=frame.total_rows).allocate()
        dense = self._with(frame, self._scheduler.planner.whole(frame), storage, guess)
        dense.probe = probe = self._scheduler.probe(dense)
        (hidden,) = self._runner.decoder.forward([dense.prompt(self._model.decoder)])
        (decoded,) = self._runner.act([dense.prefilled(hidden)])
        assert probe is not None  # noqa: S101 (its policy asks for relevance)
        draft = guess if prepared.actions is None else replace(guess, ids=decoded.chunk.tokens)
        relevance, answer = probe.relevance(dense.kv), self._answer(self._with(frame, dense.plan, storage, draft))
        return _Dense(frame, storage, draft, answer, relevance)

    def _with(self, frame: ScheduledFrame, plan: ReusePlan, storage: Tensor, draft: Draft) -> ScheduledFrame:
        """The same frame by a plan, over what `storage` holds."""
        planned = replace(frame, draft=draft)
        planned.plan, planned.kv = plan, FrameKV(storage)
        return planned

    def _drift(self, answer: Tensor, dense: Tensor) -> float:
        """Of an answer against a dense one: the worst number of the actions that count."""
        apart = (answer - dense).abs().sum(dim=-1)
        return self._answers.drift(apart.reshape(self._model.info.chunk_horizon, -1).amax(dim=1).tolist())

    def _answer(self, frame: ScheduledFrame) -> Tensor:
        """[numbers, n]: an action's numbers as they are, or the distribution over each one's bins, summed up."""
        (hidden,) = self._runner.decoder.forward([frame.prompt(self._model.decoder)])
        actions = frame.prepared.actions
        if actions is None:
            (decoded,) = self._runner.act([frame.prefilled(hidden)])
            return torch.from_numpy(decoded.normalised).reshape(-1, 1)
        logits = self._model.decoder.logits(hidden)[:, actions.start : actions.stop].float()
        return logits.softmax(dim=-1).cumsum(dim=-1) * (RANGE / (len(actions) - 1))
