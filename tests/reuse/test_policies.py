from __future__ import annotations

from typing import Any

import pytest

from stillframe.domain import REUSE_MODES
from stillframe.errors import ConfigError
from stillframe.reuse.policies import NO_LIMIT, ReusePolicy, reuse_policy
from stillframe.reuse.schedule import CumulativeEntropy, Fixed
from stillframe.reuse.settings import AdaptiveSettings, PaperSettings, ReuseSettings
from stillframe.reuse.similarity import Cosine, Embedding, IdenticalPrefix, Pixels

LAYERS = 6


def made(mode: Any, adaptive: dict[str, Any] | None = None, paper: dict[str, Any] | None = None) -> ReusePolicy:
    """The mode's recipe."""
    settings = ReuseSettings(adaptive=AdaptiveSettings(**adaptive or {}), paper=PaperSettings(**paper or {}))
    recipe = reuse_policy(mode, settings, LAYERS)
    assert recipe is not None
    return recipe


def test_off_has_no_recipe() -> None:
    """Nothing is reused."""
    assert reuse_policy("off", ReuseSettings(), LAYERS) is None


def test_exact_is_bounded_by_nothing_but_equality() -> None:
    """Rows equal to the bit may be as old as they like and as relevant: they are what a dense pass would compute."""
    recipe = made("exact", {"top_k": 1, "task_top_k": 5, "age_limit": 1, "schedule": [0.0], "keyframe_every": 1})

    assert recipe == ReusePolicy(IdenticalPrefix(), exact=True)
    assert not recipe.needs_relevance
    assert (recipe.top_k, recipe.age_limit, recipe.keyframe_every, recipe.scene_cut) == (
        NO_LIMIT,
        NO_LIMIT,
        NO_LIMIT,
        0,
    )


def test_static_only_is_the_paper_without_the_task() -> None:
    """The ablation: the paper's threshold and top-k, no relevance, no schedule, compared with the last frame."""
    recipe = made("static-only", paper={"tau": 0.9, "top_k": 7, "task_top_k": 50, "k": 3.0})

    assert recipe == ReusePolicy(Cosine(0.9), top_k=7, published=True)
    assert not recipe.needs_relevance
    assert not recipe.bounded


def test_paper_is_as_published() -> None:
    """Raw cosine, entropy schedule, no age limit, no scene cut, no bound on drift."""
    recipe = made("paper")

    assert recipe.criterion == Cosine(0.996)
    assert recipe.schedule == CumulativeEntropy(1.0)
    assert (recipe.top_k, recipe.task_top_k, recipe.age_limit, recipe.scene_cut) == (130, 100, NO_LIMIT, 0)
    assert recipe.published
    assert not recipe.bounded
    assert recipe.needs_relevance


def test_adaptive_is_bounded() -> None:
    """Ages, drift and keyframes limit it; the slack refreshes it."""
    recipe = made("adaptive")

    assert recipe.criterion == Embedding(AdaptiveSettings().distance)
    assert recipe.bounded
    assert not recipe.published
    assert recipe.age_limit < NO_LIMIT
    assert recipe.keyframe_every < NO_LIMIT


@pytest.mark.parametrize(
    ("knobs", "part", "value"),
    [
        ({"distance": 0.3}, "criterion", Embedding(0.3)),
        ({"criterion": "pixels", "tau": 0.5}, "criterion", Pixels(0.5, 0.95, 24.0)),
        ({"criterion": "pixels", "tau_centred": 0.5}, "criterion", Pixels(0.996, 0.5, 24.0)),
        ({"criterion": "pixels", "max_difference": 5.0}, "criterion", Pixels(0.996, 0.95, 5.0)),
        ({"top_k": 9}, "top_k", 9),
        ({"task_top_k": 8}, "task_top_k", 8),
        ({"relevance_layers": [1, 5]}, "relevance_layers", (1, 5)),
        ({"schedule": [0.0, 0.5]}, "schedule", Fixed((0.0, 0.5))),
        ({"age_limit": 3}, "age_limit", 3),
        ({"keyframe_every": 4}, "keyframe_every", 4),
        ({"scene_cut": 0.6}, "scene_cut", 0.6),
    ],
)
def test_every_adaptive_knob_gets_to_its_place(knobs: dict[str, Any], part: str, value: object) -> None:
    """One knob turned, one part of the recipe changed, all others as they were."""
    usual, turned = made("adaptive"), made("adaptive", knobs)
    differing = [name for name in ReusePolicy.__dataclass_fields__ if getattr(usual, name) != getattr(turned, name)]

    assert getattr(turned, part) == value
    assert differing == [part]


@pytest.mark.parametrize(
    ("knobs", "part", "value"),
    [
        ({"tau": 0.8}, "criterion", Cosine(0.8)),
        ({"top_k": 9}, "top_k", 9),
        ({"task_top_k": 8}, "task_top_k", 8),
        ({"tau_task": 0.4}, "tau_task", 0.4),
        ({"k": 2.5}, "schedule", CumulativeEntropy(2.5)),
        ({"k": None}, "schedule", Fixed()),
        ({"k": 0.0}, "schedule", CumulativeEntropy(0.0)),
        ({"layers": [2, 4]}, "schedule", CumulativeEntropy(1.0, (2, 4))),
        ({"relevance_layers": [3]}, "relevance_layers", (3,)),
    ],
)
def test_every_paper_knob_gets_to_its_place(knobs: dict[str, Any], part: str, value: object) -> None:
    """One knob turned, one part of the recipe changed, all others as they were."""
    usual, turned = made("paper"), made("paper", paper=knobs)
    differing = [name for name in ReusePolicy.__dataclass_fields__ if getattr(usual, name) != getattr(turned, name)]

    assert getattr(turned, part) == value
    assert differing == [part]


@pytest.mark.parametrize(
    ("knobs", "key"),
    [
        ({"adaptive": AdaptiveSettings(relevance_layers=[0, LAYERS])}, "reuse.adaptive.relevance_layers"),
        ({"paper": PaperSettings(relevance_layers=[LAYERS])}, "reuse.paper.relevance_layers"),
        ({"paper": PaperSettings(layers=[LAYERS])}, "reuse.paper.layers"),
    ],
)
@pytest.mark.parametrize("mode", REUSE_MODES)
def test_a_layer_that_the_decoder_lacks_is_refused_at_the_start(mode: Any, knobs: dict[str, Any], key: str) -> None:
    """Whatever the mode now: a session may ask for another. The error names the key and the layers there are."""
    with pytest.raises(ConfigError, match=rf"{key} is \[.*6\]; .* layers 0 to 5"):
        reuse_policy(mode, ReuseSettings(**knobs), LAYERS)


def test_caution_takes_from_count_age_and_interval() -> None:
    """Nothing at 0; half of all at 0.5; at 1 no token is left, and every other frame is dense."""
    recipe = made("adaptive", {"top_k": 100, "age_limit": 8, "keyframe_every": 12})
    half, full = recipe.tightened(0.5), recipe.tightened(1.0)

    assert recipe.tightened(0.0) == recipe
    assert (half.share, half.top_k, half.age_limit, half.keyframe_every) == (0.5, 100, 4, 6)
    assert (full.share, full.age_limit, full.keyframe_every) == (0, 1, 2)
    assert made("adaptive", {"keyframe_every": 1}).tightened(0.5).keyframe_every == 1
    assert half.criterion == recipe.criterion
    for mode in ("exact", "paper", "static-only"):
        assert made(mode, {}).tightened(0.5) == made(mode, {})


@pytest.mark.parametrize("mode", ["exact", "adaptive", "paper", "static-only"])
def test_drift_is_measured_wherever_there_can_be_any(mode: Any) -> None:
    """In all modes but exact, bounded or not: in a pause their answers are held against a dense pass."""
    assert made(mode).measured == (mode != "exact")


def test_relevance_is_asked_for_where_a_plan_needs_it() -> None:
    """By either way of choosing what matters, or by the schedule's entropies."""
    assert not made("adaptive", {"task_top_k": 0}).needs_relevance
    assert made("adaptive", {"task_top_k": 1}).needs_relevance
    assert not made("paper", paper={"task_top_k": 0, "k": None}).needs_relevance
    assert made("paper", paper={"task_top_k": 0, "k": None, "tau_task": 0.5}).needs_relevance
    assert made("paper", paper={"task_top_k": 0, "k": 1.0}).needs_relevance


def test_each_mode_asks_the_rows_that_its_section_names() -> None:
    """The text's, unless its own section says the action expert's."""
    assert (made("adaptive").relevance, made("paper").relevance) == ("text", "text")
    assert made("adaptive", {"relevance": "expert"}).relevance == "expert"
    assert made("adaptive", paper={"relevance": "expert"}).relevance == "text"
    assert made("paper", paper={"relevance": "expert"}).relevance == "expert"
