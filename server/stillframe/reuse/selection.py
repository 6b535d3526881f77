"""Which patch tokens a delta frame reuses, the most reusable first.

Knows similarity, relevance and ages of patch tokens; no decoder layer, no session.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from stillframe.reuse.policies import NO_LIMIT, ReusePolicy
from stillframe.reuse.relevance import Relevance
from stillframe.reuse.selector import PatchEvidence, within_drift
from stillframe.reuse.similarity import Similarity

NEGLIGIBLE = 1e-6  # distance


@dataclass(frozen=True)
class TaskRelevance:
    """Task relevance from the last pass whose attention was probed: an idle refresh where there was one."""

    relevance: Relevance
    relevant: Tensor  # bool [tokens]: recomputed as relevant to the task
    count: int  # of those

    @classmethod
    def of(cls, relevance: Relevance, cameras: Sequence[slice], policy: ReusePolicy) -> TaskRelevance:
        """The task_top_k tokens of each camera, or those from tau_task on."""
        relevant, count = torch.zeros_like(relevance.scores, dtype=torch.bool), 0
        for camera in cameras:
            scores = relevance.scores[camera]
            if policy.tau_task is not None:
                low, high = scores.aminmax()
                relevant[camera] = (scores - low) >= policy.tau_task * (high - low)
                count += int(relevant[camera].sum())  # waits for a GPU
            else:
                most = min(policy.task_top_k, len(scores))
                relevant[camera][scores.topk(most).indices] = True
                count += most
        return cls(relevance, relevant, count)


def select(
    similarity: Similarity,
    task_relevance: TaskRelevance | None,
    ages: Tensor,
    cameras: Sequence[slice],
    policy: ReusePolicy,
    grid: tuple[int, int] = (1, 1),
) -> Tensor:
    """Static tokens, minus those that matter for the task, minus those too old; at most top_k of each camera.

    Of a policy with a selector those not too old that it expects to add least drift, within what a plan may have.

    Returns their indices [n], most similar and least relevant first. `ages` [tokens]: frames since each token's KV
    was computed, at the last frame. Indices are into the patch tokens: all cameras' patches, in the layout's order;
    each camera has `grid` rows and columns of them.
    """
    if policy.selector is not None and task_relevance is not None:
        scores = task_relevance.relevance.scores
        added = policy.selector(PatchEvidence(similarity.distance, scores, ages, cameras, grid).features())
        return within_drift(added, ages < policy.age_limit, policy.drift)
    young = similarity.static & (ages < policy.age_limit)
    if task_relevance is None:
        return _cheapest(similarity.distance, young, cameras, policy)
    if policy.published:  # top_k by similarity first, then without the relevant ones
        order = _cheapest(similarity.distance, young, cameras, policy)
        return order[~task_relevance.relevant[order]]
    # Cost of reusing a token: how far it moved, times how much attention it gets.
    scores = task_relevance.relevance.scores
    eligible = young & ~task_relevance.relevant
    if policy.share < 1:  # first to go are the most attended, moved or not
        least = _cheapest(scores, eligible, cameras, replace(policy, top_k=NO_LIMIT))
        eligible = torch.zeros_like(eligible).index_fill_(0, least, value=True)
        policy = replace(policy, share=1.0, top_k=int(policy.share * policy.top_k))
    return _cheapest((similarity.distance + NEGLIGIBLE) * scores, eligible, cameras, policy)


def _cheapest(cost: Tensor, eligible: Tensor, cameras: Sequence[slice], policy: ReusePolicy) -> Tensor:
    """Indices [n] of eligible tokens, at most policy.share of top_k per camera; least cost first, ties by index."""
    cost = cost.masked_fill(~eligible, torch.inf)
    counts = [int(policy.share * min(int(eligible[camera].sum()), policy.top_k)) for camera in cameras]
    if len(cameras) == 1:
        return cost.argsort(stable=True)[: counts[0]]
    best = [
        cost[camera].argsort(stable=True)[:count] + camera.start for camera, count in zip(cameras, counts, strict=True)
    ]
    chosen = torch.cat(best)
    return chosen[cost[chosen].argsort(stable=True)]
