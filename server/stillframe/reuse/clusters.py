"""Density-peak clustering of rows, k nearest neighbours as density: what SparseVLM merges pruned tokens by.

Knows rows; not what they are.
"""

from __future__ import annotations

import torch
from torch import Tensor


def merge_by_density(rows: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """Cluster rows [n, width] round `count` centres: their indices [count], rising, and each cluster's mean row.

    A centre is dense, and far from all that is denser: Rodriguez and Laio, Science 2014, with the density of Du et al.
    (2016). The published code breaks ties by chance; here the earlier row counts as denser.
    """
    apart = torch.cdist(rows.float(), rows.float(), compute_mode="donot_use_mm_for_euclid_dist") / rows.shape[1] ** 0.5
    density = (-apart.topk(count, largest=False).values.square().mean(dim=-1)).exp()
    earlier = torch.ones_like(apart, dtype=torch.bool).tril(-1)  # [row, other]: the other comes before the row
    denser = (density > density[:, None]) | ((density == density[:, None]) & earlier)
    separation = apart.masked_fill(~denser, float(apart.max())).amin(dim=-1)
    centres = (separation * density).argsort(descending=True, stable=True)[:count].sort().values
    cluster = apart[:, centres].argmin(dim=-1)
    cluster[centres] = torch.arange(count, device=rows.device)
    sums = rows.new_zeros(count, rows.shape[1]).index_add_(0, cluster, rows)
    return centres, sums / cluster.bincount(minlength=count)[:, None].to(rows.dtype)
