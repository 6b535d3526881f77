"""What each mode of reuse means: the knobs of a deployment, turned into one recipe a mode.

Knows settings and criteria; no frame. The differences between the modes all stand here.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from stillframe.domain import ReuseMode
from stillframe.errors import ConfigError
from stillframe.reuse.schedule import CumulativeEntropy, Fixed, Schedule
from stillframe.reuse.settings import AdaptiveSettings, PaperSettings, ReuseSettings
from stillframe.reuse.similarity import Cosine, Criterion, Embedding, IdenticalPrefix, Pixels

NO_LIMIT = 10**9


@dataclass(frozen=True)
class Recipe:
    """How one mode plans a frame."""

    criterion: Criterion
    schedule: Schedule = Fixed()  # noqa: RUF009 (frozen)
    top_k: int = NO_LIMIT  # tokens of each camera that may be reused
    share: float = 1.0  # of those, how many are
    task_top_k: int = 0  # tokens of each camera that are recomputed because the task looks there
    tau_task: float | None = None  # instead of task_top_k: relevance of each camera, scaled to 0..1
    relevance_layers: tuple[int, ...] = ()
    age_limit: int = NO_LIMIT  # frames
    keyframe_every: int = NO_LIMIT  # frames without a dense pass
    scene_cut: float = 0.0  # least share of static tokens
    published: bool = False  # compares with the last frame, whatever the KV's age; takes top_k before relevance
    bounded: bool = False  # drift steers, and the slack's dense pass replaces KV and relevance

    @property
    def measured(self) -> bool:
        """Whether answers can drift, so that a pause is worth a dense pass."""
        return self.bounded or self.published

    @property
    def needs_relevance(self) -> bool:
        """Whether a plan asks where the task looks."""
        return self.task_top_k > 0 or self.tau_task is not None or self.schedule.needs_entropies

    def careful(self, caution: float) -> Recipe:
        """The same with fewer reused tokens and a shorter age; `caution` 0 changes nothing, 1 reuses nothing.

        Modes that are not bounded know no caution.
        """
        if caution == 0 or not self.bounded:
            return self
        room = 1.0 - caution
        return replace(self, share=self.share * room, age_limit=max(1, int(self.age_limit * room)))


def recipe_of(mode: ReuseMode, settings: ReuseSettings, layers: int) -> Recipe | None:
    """The recipe of `mode` for a decoder of `layers` layers; None: nothing is reused. Raises ConfigError."""
    _check_layers("reuse.adaptive.relevance_layers", settings.adaptive.relevance_layers, layers)
    _check_layers("reuse.paper.relevance_layers", settings.paper.relevance_layers, layers)
    _check_layers("reuse.paper.layers", settings.paper.layers, layers)
    match mode:
        case "off":
            return None
        case "exact":
            return Recipe(IdenticalPrefix())
        case "adaptive":
            return _adaptive(settings.adaptive)
        case "paper":
            return _paper(settings.paper)
        case "static-only":
            return Recipe(Cosine(settings.paper.tau), top_k=settings.paper.top_k, published=True)


def _adaptive(knobs: AdaptiveSettings) -> Recipe:
    pixels = Pixels(knobs.tau, knobs.tau_centred, knobs.max_difference)
    return Recipe(
        Embedding(knobs.distance) if knobs.criterion == "embedding" else pixels,
        schedule=Fixed(tuple(knobs.schedule)),
        top_k=knobs.top_k,
        task_top_k=knobs.task_top_k,
        relevance_layers=tuple(knobs.relevance_layers),
        age_limit=knobs.age_limit,
        keyframe_every=knobs.keyframe_every,
        scene_cut=knobs.scene_cut,
        bounded=True,
    )


def _paper(knobs: PaperSettings) -> Recipe:
    return Recipe(
        Cosine(knobs.tau),
        schedule=Fixed() if knobs.k is None else CumulativeEntropy(knobs.k, tuple(knobs.layers)),
        top_k=knobs.top_k,
        task_top_k=knobs.task_top_k,
        tau_task=knobs.tau_task,
        relevance_layers=tuple(knobs.relevance_layers),
        published=True,
    )


def _check_layers(key: str, chosen: Sequence[int], layers: int) -> None:
    if any(not 0 <= layer < layers for layer in chosen):
        raise ConfigError(f"{key} is {list(chosen)}; this checkpoint's decoder has layers 0 to {layers - 1}")
