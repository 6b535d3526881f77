from __future__ import annotations

from math import exp, log, sqrt

import pytest
import torch
from torch import Tensor

from stillframe.reuse.relevance import Relevance, attention_to_patches

DIM = 6


def naive_look(queries: Tensor, keys: Tensor, positions: list[int], patches: list[int]) -> list[list[float]]:
    """Each row's attention to each patch, mean over heads, with loops and exponentials."""
    heads, group = len(queries), len(queries) // len(keys)
    out = []
    for row, position in enumerate(positions):
        shares = [0.0] * len(patches)
        for head in range(heads):
            weights = [
                exp(float(queries[head, row].double() @ keys[head // group, key].double()) / sqrt(DIM))
                for key in range(position + 1)
            ]
            for number, patch in enumerate(patches):
                shares[number] += weights[patch] / sum(weights) / heads if patch <= position else 0.0
        out.append(shares)
    return out


@pytest.mark.parametrize("kv_heads", [1, 2, 4])
def test_a_look_is_causal_softmax_attention(kv_heads: int) -> None:
    """Grouped heads share keys in order; later keys take no attention; BOS and text take their part of it."""
    random = torch.Generator().manual_seed(3)
    queries = torch.randn(4, 3, DIM, generator=random)
    keys = torch.randn(kv_heads, 12, DIM, generator=random)
    positions, patches = [8, 9, 11], range(2, 7)
    seen = attention_to_patches(queries, keys, torch.tensor(positions), patches)

    assert seen.shape == (3, 5)
    torch.testing.assert_close(seen, torch.tensor(naive_look(queries, keys, positions, [*patches])), rtol=0, atol=1e-6)
    assert (seen.sum(dim=-1) < 1).all()


def test_a_row_does_not_look_ahead() -> None:
    """Patches behind a row get nothing from it, however well they match."""
    queries, keys = torch.ones(1, 1, DIM), torch.ones(1, 5, DIM)
    keys[0, 3] = 50

    assert attention_to_patches(queries, keys, torch.tensor([2]), range(2, 4)).tolist() == [[pytest.approx(1 / 3), 0]]


def test_scores_are_means_over_rows_and_chosen_layers() -> None:
    """Layers that were not chosen give their entropy and no score; without a choice all count."""
    looks = {0: torch.tensor([[0.2, 0.0], [0.4, 0.2]]), 2: torch.tensor([[0.0, 0.6], [0.0, 0.2]])}

    assert Relevance.of(looks, [0]).scores.tolist() == pytest.approx([0.3, 0.1])
    assert Relevance.of(looks, [2]).scores.tolist() == pytest.approx([0.0, 0.4])
    assert Relevance.of(looks, []).scores.tolist() == pytest.approx([0.15, 0.25])
    assert len(Relevance.of(looks, [2]).entropies) == 2


def test_entropies_are_of_the_share_among_patches() -> None:
    """Equal shares of four: log 4, however little attention they get together; all on one: 0; mean over rows."""
    looks = {
        0: torch.full((2, 4), 0.01),
        1: torch.tensor([[0.3, 0, 0, 0], [0, 0.1, 0, 0]]),
        2: torch.tensor([[0.1, 0.1, 0.1, 0.1], [0.5, 0, 0, 0]]),
        3: torch.zeros(2, 4),
    }

    assert Relevance.of(looks, []).entropies.tolist() == pytest.approx([log(4), 0, log(4) / 2, 0])
