"""Reuse policies: the settings of a deployment, turned into one policy per mode.

Knows settings and criteria; no frame. All differences between the modes are here.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from stillframe.domain import ReuseMode
from stillframe.errors import ConfigError
from stillframe.reuse.schedule import CumulativeEntropy, Fixed, Schedule
from stillframe.reuse.selector import PatchSelector
from stillframe.reuse.settings import AdaptiveSettings, PaperSettings, RelevanceSource, ReuseSettings
from stillframe.reuse.similarity import Cosine, Criterion, Embedding, IdenticalPrefix, Pixels

NO_LIMIT = 10**9
LEAST_INTERVAL = 2  # frames from one dense pass to the next, however careful plans are: a delta frame between them


@dataclass(frozen=True)
class ReusePolicy:
    """How one mode plans a frame's reuse."""

    criterion: Criterion
    schedule: Schedule = Fixed()  # noqa: RUF009 (frozen)
    top_k: int = NO_LIMIT  # tokens of each camera that may be reused
    share: float = 1.0  # of those, how many are
    task_top_k: int = 0  # most attended tokens of each camera, recomputed
    tau_task: float | None = None  # instead of task_top_k: relevance of each camera, scaled to 0..1
    relevance: RelevanceSource = "text"  # whose attention says it
    relevance_layers: tuple[int, ...] = ()
    age_limit: int = NO_LIMIT  # frames
    keyframe_every: int = NO_LIMIT  # frames without a dense pass
    scene_cut: float = 0.0  # least share of static tokens
    published: bool = False  # compares with the last frame, whatever the KV's age; takes top_k before relevance
    exact: bool = False  # reuses only what cannot change the answer, which takes a causal mask
    selector: PatchSelector | None = None  # says which tokens may be reused, in place of what else would
    drift: float = 0.0  # selector: that a plan may have by its estimate
    bounded: bool = False  # drift tightens it, and idle refreshes replace KV and relevance

    @property
    def measured(self) -> bool:
        """Whether answers can drift, so that an idle dense pass is worth its time."""
        return self.bounded or self.published

    @property
    def needs_relevance(self) -> bool:
        """Whether plans depend on attention."""
        asked = self.task_top_k > 0 or self.tau_task is not None or self.selector is not None
        return self.schedule.needs_entropies or (asked and self.relevance != "masks")

    def tightened(self, caution: float) -> ReusePolicy:
        """The same with fewer reused tokens, a lower age limit and dense passes nearer to each other.

        `caution` 0 changes nothing, 1 reuses nothing. No effect on modes that are not bounded.
        """
        if caution == 0 or not self.bounded:
            return self
        room = 1.0 - caution
        return replace(
            self,
            share=self.share * room,
            drift=self.drift * room,
            age_limit=max(1, int(self.age_limit * room)),
            keyframe_every=min(self.keyframe_every, max(LEAST_INTERVAL, round(self.keyframe_every * room))),
        )


def reuse_policy(
    mode: ReuseMode, settings: ReuseSettings, layers: int, selector: PatchSelector | None = None
) -> ReusePolicy | None:
    """The policy of `mode` for a decoder of `layers` layers; None: nothing is reused. Raises ConfigError.

    `selector`: what reuse.adaptive.selector names, loaded.
    """
    _check_layers("reuse.adaptive.relevance_layers", settings.adaptive.relevance_layers, layers)
    _check_layers("reuse.paper.relevance_layers", settings.paper.relevance_layers, layers)
    _check_layers("reuse.paper.layers", settings.paper.layers, layers)
    match mode:
        case "off":
            return None
        case "exact":
            return ReusePolicy(IdenticalPrefix(), exact=True)
        case "adaptive":
            policy = _adaptive(settings.adaptive)
            return policy if selector is None else _selected(policy, settings, selector)
        case "paper":
            return _paper(settings.paper)
        case "static-only":
            return ReusePolicy(Cosine(settings.paper.tau), top_k=settings.paper.top_k, published=True)
        case "fastv" | "sparsevlm" | "tome":
            return None  # see pruning.py


def _adaptive(settings: AdaptiveSettings) -> ReusePolicy:
    pixels = Pixels(settings.tau, settings.tau_centred, settings.max_difference)
    return ReusePolicy(
        Embedding(settings.distance) if settings.criterion == "embedding" else pixels,
        schedule=Fixed(tuple(settings.schedule)),
        top_k=settings.top_k,
        task_top_k=settings.task_top_k,
        relevance=settings.relevance,
        relevance_layers=tuple(settings.relevance_layers),
        age_limit=settings.age_limit,
        keyframe_every=settings.keyframe_every,
        scene_cut=settings.scene_cut,
        bounded=True,
    )


def _selected(policy: ReusePolicy, settings: ReuseSettings, selector: PatchSelector) -> ReusePolicy:
    """The same with a selector in place of what else says which tokens are reused."""
    allowed = settings.adaptive.selector_drift
    return replace(
        policy,
        selector=selector,
        drift=settings.drift_budget if allowed is None else allowed,
        schedule=Fixed(),
        top_k=NO_LIMIT,
        task_top_k=0,
    )


def _paper(settings: PaperSettings) -> ReusePolicy:
    return ReusePolicy(
        Cosine(settings.tau),
        schedule=Fixed() if settings.k is None else CumulativeEntropy(settings.k, tuple(settings.layers)),
        top_k=settings.top_k,
        task_top_k=settings.task_top_k,
        tau_task=settings.tau_task,
        relevance=settings.relevance,
        relevance_layers=tuple(settings.relevance_layers),
        published=True,
    )


def _check_layers(key: str, chosen: Sequence[int], layers: int) -> None:
    if any(not 0 <= layer < layers for layer in chosen):
        raise ConfigError(f"{key} is {list(chosen)}; this checkpoint's decoder has layers 0 to {layers - 1}")
