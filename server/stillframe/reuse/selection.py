"""Which patch tokens a delta frame reuses, and in which order it would give them up to recomputation last.

Knows likeness, relevance and ages of patch tokens; no decoder layer, no session.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from stillframe.reuse.modes import Recipe
from stillframe.reuse.relevance import Relevance
from stillframe.reuse.similarity import Likeness


@dataclass(frozen=True)
class Selection:
    """Indices are into the patch tokens: all cameras' patches, in the layout's order."""

    order: Tensor  # [n] reusable tokens, most similar and least relevant first
    static: Tensor  # bool [tokens]
    relevant: Tensor  # bool [tokens]


def select(
    likeness: Likeness, relevance: Relevance | None, ages: Tensor, cameras: Sequence[slice], recipe: Recipe
) -> Selection:
    """Static tokens, minus those that matter for the task, minus those too old; at most top_k of each camera.

    `ages` [tokens]: frames since each token's KV was computed, at the last frame.
    """
    relevant = _relevant(relevance, cameras, recipe, like=likeness.static)
    young = likeness.static & (ages < recipe.age_limit)
    if recipe.published:  # the most similar first, and only then what the task looks at leaves
        order = _cheapest(likeness.distance, young, cameras, recipe.top_k)
        return Selection(order[~relevant[order]], likeness.static, relevant)
    cost = likeness.distance if relevance is None else _rank(likeness.distance) + _rank(relevance.scores)
    return Selection(_cheapest(cost, young & ~relevant, cameras, recipe.top_k), likeness.static, relevant)


def _relevant(relevance: Relevance | None, cameras: Sequence[slice], recipe: Recipe, like: Tensor) -> Tensor:
    """Bool [tokens]: the task_top_k of each camera, or those from tau_task on."""
    found = torch.zeros_like(like)
    if relevance is None:
        return found
    for camera in cameras:
        scores = relevance.scores[camera]
        if recipe.tau_task is not None:
            low, high = scores.aminmax()
            found[camera] = (scores - low) >= recipe.tau_task * (high - low)
        else:
            found[camera][scores.topk(min(recipe.task_top_k, len(scores))).indices] = True
    return found


def _cheapest(cost: Tensor, eligible: Tensor, cameras: Sequence[slice], top_k: int) -> Tensor:
    """Indices [n] of the eligible tokens, at most `top_k` of each camera, least cost first; ties by index."""
    cost = cost.float().masked_fill(~eligible, torch.inf)
    counts = [min(int(eligible[camera].sum()), top_k) for camera in cameras]
    if len(cameras) == 1:
        return cost.argsort(stable=True)[: counts[0]]
    best = [
        cost[camera].argsort(stable=True)[:count] + camera.start for camera, count in zip(cameras, counts, strict=True)
    ]
    chosen = torch.cat(best)
    return chosen[cost[chosen].argsort(stable=True)]


def _rank(values: Tensor) -> Tensor:
    """[n] -> each value's place in the rising order."""
    places = torch.empty_like(values, dtype=torch.long)
    places[values.argsort(stable=True)] = torch.arange(len(values), device=values.device)
    return places
