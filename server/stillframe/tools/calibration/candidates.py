"""Candidate settings of mode adaptive: which to try, their results, and which is best.

Knows ranges and steps; no model. First a wide grid of thresholds and relevance, then every setting around the best.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import product

import numpy as np

from stillframe.reuse.settings import AdaptiveSettings

DISTANCES = (0.05, 0.1, 0.15, 0.22, 0.32, 0.45)
TAUS = ((0.999, 12.0), (0.996, 24.0), (0.985, 48.0))  # tau, max_difference
TASK_SHARES = (0.0, 0.08, 0.16, 0.32)  # of a camera's tokens
NEAR_BUDGET = 1.5  # times the budget: close enough that one more change may bring it within
AGE_LIMITS = (1, 2, 4, 8, 16, 32)


@dataclass
class CandidateResult:
    """What one candidate reused, and its drift, over all frames."""

    knobs: AdaptiveSettings
    ratios: list[float] = field(default_factory=list)  # of every frame; 0 for a keyframe
    drifts: list[float] = field(default_factory=list)  # of every delta frame

    @property
    def reuse(self) -> float:
        """Token-layers reused / token-layers of keyframes, over whole episodes."""
        return float(np.mean(self.ratios)) if self.ratios else 0.0

    def drift(self, percent: float) -> float:
        """A percentile of the delta frames' drift; 0 where there was no delta frame."""
        return float(np.percentile(self.drifts, percent)) if self.drifts else 0.0

    def exceeds(self, budget: float, frames: int) -> bool:
        """Whether its drift p90 over `frames` frames must exceed `budget`: too many frames already did."""
        return sum(drift > budget for drift in self.drifts) > 1 + 0.1 * frames

    def add(self, ratio: float, drift: float | None) -> None:
        """Add one frame; `drift` None: a keyframe, which has none."""
        self.ratios.append(ratio)
        if drift is not None:
            self.drifts.append(drift)


def initial_grid(knobs: AdaptiveSettings, camera_tokens: int, criterion: str | None = None) -> list[AdaptiveSettings]:
    """The grid: one criterion or both, strict to loose, times task-relevant tokens kept; nothing else has a say."""
    free = replace(knobs, top_k=camera_tokens, schedule=[], relevance_layers=[], selector=None)
    rows = [replace(free, criterion="embedding", distance=distance) for distance in DISTANCES]
    pixels = [replace(free, criterion="pixels", tau=tau, max_difference=most) for tau, most in TAUS]
    kept = [round(share * camera_tokens) for share in TASK_SHARES]
    chosen = [each for each in [*rows, *pixels] if criterion in {None, each.criterion}]
    return [replace(each, task_top_k=task) for each, task in product(chosen, kept)]


def neighbours(best: AdaptiveSettings, camera_tokens: int, layers: int, reach: float) -> list[AdaptiveSettings]:
    """Candidates one step from the best in each setting; `reach` 1 is a wide step. The best itself is left out."""
    found: list[AdaptiveSettings] = []
    for knobs in _steps(best, camera_tokens, layers, reach):
        if knobs != best and knobs not in found:
            found.append(knobs)
    return found


def within_budget(results: Sequence[CandidateResult], budget: float) -> list[CandidateResult]:
    """Results with reuse and drift p90 within budget: most reuse first, then least drift."""
    kept = [result for result in results if result.drift(90) <= budget and result.reuse > 0]
    return sorted(kept, key=lambda result: (-result.reuse, result.drift(90), result.drift(99)))


def best_within_budget(results: Sequence[CandidateResult], budget: float) -> CandidateResult | None:
    """The best within budget; None: there is none."""
    return next(iter(within_budget(results, budget)), None)


def refinement_seeds(results: Sequence[CandidateResult], budget: float) -> list[AdaptiveSettings]:
    """Candidates to refine: of each criterion the best within budget, and the best slightly over it."""
    found: list[AdaptiveSettings] = []
    for criterion in sorted({result.knobs.criterion for result in results}):
        ours = [result for result in results if result.knobs.criterion == criterion]
        seeds = [best_within_budget(ours, budget), best_within_budget(ours, NEAR_BUDGET * budget) or least_drift(ours)]
        found += [seed.knobs for seed in seeds if seed is not None]
    return [knobs for index, knobs in enumerate(found) if knobs not in found[:index]]


def least_drift(results: Sequence[CandidateResult]) -> CandidateResult:
    """The result of least drift p90 among those that reuse something, if any; then of most reuse."""
    reusing = [result for result in results if result.reuse > 0] or results
    return min(reusing, key=lambda result: (result.drift(90), -result.reuse))


def _steps(best: AdaptiveSettings, camera_tokens: int, layers: int, reach: float) -> Iterator[AdaptiveSettings]:
    yield from _looser_and_stricter(best, reach)
    for factor in (1 - 0.5 * reach, 1 - 0.25 * reach, 1 + 0.5 * reach):
        yield replace(best, task_top_k=min(camera_tokens, round(best.task_top_k * factor)))
    for share in (1.0, 1 - 0.1 * reach, 1 - 0.25 * reach):
        yield replace(best, top_k=round(camera_tokens * share))
    for chosen in _layer_choices(layers):
        yield replace(best, relevance_layers=chosen)
    fewer = [replace(best, task_top_k=round(best.task_top_k * factor)) for factor in (0.25, 0.5, 0.75)]
    for schedule in ([], [0.0, 1.0], [0.5, 1.0]):  # with all rows computed in the first layers, limits may be looser
        yield from (replace(each, schedule=schedule) for each in (best, *fewer, *_looser_and_stricter(best, reach)))


def _looser_and_stricter(best: AdaptiveSettings, reach: float) -> Iterator[AdaptiveSettings]:
    for factor in (1 / (1 + reach / 2), 1 / (1 + reach / 4), 1 + reach / 4, 1 + reach / 2):
        if best.criterion == "embedding":
            yield replace(best, distance=min(2.0, round(best.distance * factor, 4)))
        else:
            tau = max(-1.0, round(1 - (1 - best.tau) * factor, 6))
            yield replace(best, tau=tau, max_difference=min(255.0, round(best.max_difference * factor, 2)))


def _layer_choices(layers: int) -> list[list[int]]:
    """All, the earlier and the later half, and single layers from first to last."""
    single = sorted({round(step * (layers - 1) / 3) for step in range(4)})
    return [[], list(range(layers // 2)), list(range(layers // 2, layers)), *([layer] for layer in single)]
