"""Which patch tokens a delta frame reuses, the most reusable first.

Knows likeness, relevance and ages of patch tokens; no decoder layer, no session.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from stillframe.reuse.policies import Recipe
from stillframe.reuse.relevance import Relevance
from stillframe.reuse.similarity import Likeness

NEGLIGIBLE = 1e-6  # distance


@dataclass(frozen=True)
class Attended:
    """Where the last pass that was listened to looked. Made in a pause where there is one."""

    relevance: Relevance
    relevant: Tensor  # bool [tokens]: what is recomputed because the task looks there

    @classmethod
    def by(cls, relevance: Relevance, cameras: Sequence[slice], recipe: Recipe) -> Attended:
        """The task_top_k tokens of each camera, or those from tau_task on."""
        relevant = torch.zeros_like(relevance.scores, dtype=torch.bool)
        for camera in cameras:
            scores = relevance.scores[camera]
            if recipe.tau_task is not None:
                low, high = scores.aminmax()
                relevant[camera] = (scores - low) >= recipe.tau_task * (high - low)
            else:
                relevant[camera][scores.topk(min(recipe.task_top_k, len(scores))).indices] = True
        return cls(relevance, relevant)


def select(
    likeness: Likeness, attended: Attended | None, ages: Tensor, cameras: Sequence[slice], recipe: Recipe
) -> Tensor:
    """Static tokens, minus those that matter for the task, minus those too old; at most top_k of each camera.

    Returns their indices [n], most similar and least relevant first. `ages` [tokens]: frames since each token's KV
    was computed, at the last frame. Indices are into the patch tokens: all cameras' patches, in the layout's order.
    """
    young = likeness.static & (ages < recipe.age_limit)
    if attended is None:
        return _cheapest(likeness.distance, young, cameras, recipe)
    if recipe.published:  # the most similar first, and only then what the task looks at leaves
        order = _cheapest(likeness.distance, young, cameras, recipe)
        return order[~attended.relevant[order]]
    # What reusing a token disturbs: how far it moved, times how much it is looked at. Among equals: the latter.
    disturbance = (likeness.distance + NEGLIGIBLE) * attended.relevance.scores
    return _cheapest(disturbance, young & ~attended.relevant, cameras, recipe)


def _cheapest(cost: Tensor, eligible: Tensor, cameras: Sequence[slice], recipe: Recipe) -> Tensor:
    """Indices [n] of eligible tokens, of each camera a share of at most top_k; least cost first, ties by index."""
    cost = cost.masked_fill(~eligible, torch.inf)
    counts = [int(recipe.share * min(int(eligible[camera].sum()), recipe.top_k)) for camera in cameras]
    if len(cameras) == 1:
        return cost.argsort(stable=True)[: counts[0]]
    best = [
        cost[camera].argsort(stable=True)[:count] + camera.start for camera, count in zip(cameras, counts, strict=True)
    ]
    chosen = torch.cat(best)
    return chosen[cost[chosen].argsort(stable=True)]
