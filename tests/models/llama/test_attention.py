from __future__ import annotations

import pytest
import torch
from torch import Tensor

from stillframe.models.llama import attention
from stillframe.models.llama.attention import added, attend


def heads(*shape: int, seed: int) -> Tensor:
    """Normal numbers, the same each time."""
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("shape", [(3, 2, 9, 8), (2, 9, 8)])
def test_training_by_products_equals_the_fused_kernel(shape: tuple[int, ...], *, masked: bool) -> None:
    """With gradients on a CPU attention is computed another way, and comes out the same, gradients too."""
    mask = torch.ones(9, 9, dtype=torch.bool).tril() if masked else None
    parts = [heads(*shape, seed=seed) for seed in range(3)]
    fused = attend(*parts, mask)
    leaves = [part.clone().requires_grad_() for part in parts]
    products = attend(*leaves, mask)
    products.square().sum().backward()
    reference = [part.clone().requires_grad_() for part in parts]
    torch.nn.functional.scaled_dot_product_attention(*reference, attn_mask=mask).square().sum().backward()

    assert type(products.grad_fn) is not type(fused.grad_fn)
    torch.testing.assert_close(products, fused, rtol=0, atol=1e-6)
    for ours, theirs in zip(leaves, reference, strict=True):
        torch.testing.assert_close(ours.grad, theirs.grad, rtol=0, atol=5e-6)


def test_grouped_heads_share_keys() -> None:
    """Four query heads over two key heads equal the keys repeated for each pair."""
    queries, keys, values = heads(4, 5, 8, seed=0), heads(2, 7, 8, seed=1), heads(2, 7, 8, seed=2)
    repeated = attend(queries, keys.repeat_interleave(2, 0), values.repeat_interleave(2, 0))

    torch.testing.assert_close(attend(queries, keys, values), repeated, rtol=0, atol=1e-6)


def test_a_masked_key_is_not_seen() -> None:
    """What stands behind a False in the mask changes nothing."""
    queries, keys, values = (heads(2, 5, 8, seed=seed) for seed in range(3))
    mask = torch.ones(5, 5, dtype=torch.bool)
    mask[:, 3] = False
    spoilt = values.clone()
    spoilt[:, 3] = 1e3

    assert torch.equal(attend(queries, keys, spoilt, mask), attend(queries, keys, values, mask))
    assert not torch.equal(attend(queries, keys, spoilt), attend(queries, keys, values))


@pytest.mark.parametrize("at_once", [1, 10_000])
def test_sequences_have_masks_of_their_own(monkeypatch: pytest.MonkeyPatch, at_once: int) -> None:
    """One for all rows of a sequence: each attends as it does alone, however few heads are worked on at once."""
    monkeypatch.setattr(attention, "CACHED_SCORES", at_once)
    queries, keys, values = heads(3, 2, 5, 8, seed=0), heads(3, 1, 7, 8, seed=1), heads(3, 1, 7, 8, seed=2)
    mask = torch.arange(7) < torch.tensor([7, 4, 2])[:, None, None, None]
    mixed = attend(queries, keys, values, added(mask, queries.dtype))

    for at, stop in enumerate((7, 4, 2)):
        alone = attend(queries[at], keys[at, :, :stop], values[at, :, :stop])
        torch.testing.assert_close(mixed[at], alone, rtol=0, atol=1e-6)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_mask_made_for_all_layers_is_the_mask(dtype: torch.dtype) -> None:
    """The same to the bit as the kernel makes of it, and once made it stays, in whichever dtype the scores are."""
    queries, keys, values = (heads(2, 5, 8, seed=seed).to(dtype) for seed in range(3))
    mask = torch.ones(5, 5, dtype=torch.bool).tril()
    made = added(mask, dtype)

    assert torch.equal(attend(queries, keys, values, made), attend(queries, keys, values, mask))
    assert torch.equal(added(made, torch.float32), added(mask, torch.float32))


def by_hand(queries: Tensor, keys: Tensor, values: Tensor, mask: Tensor | None) -> Tensor:
    """Softmax attention in float64, query head by query head: the first few share the first key head, and so on."""
    shared = queries.shape[-3] // keys.shape[-3]
    found = []
    for head in range(queries.shape[-3]):
        asked = queries.double()[..., head, :, :]
        seen, mixed = (part.double()[..., head // shared, :, :] for part in (keys, values))
        scores = asked @ seen.transpose(-1, -2) / queries.shape[-1] ** 0.5
        if mask is not None:
            scores = scores.masked_fill(~mask, -torch.inf)
        found.append(torch.softmax(scores, dim=-1) @ mixed)
    return torch.stack(found, dim=-3)


@pytest.mark.parametrize("cached", [1, 250, 350_000], ids=["a-head-at-once", "some", "all"])
@pytest.mark.parametrize("kv_heads", [1, 2, 4])
@pytest.mark.parametrize("batch", [(), (3,)], ids=["alone", "batch"])
@pytest.mark.parametrize("way", ["open", "masked", "added", "by-reach"])
def test_attention_is_a_softmax_over_what_may_be_seen(
    monkeypatch: pytest.MonkeyPatch, way: str, batch: tuple[int, ...], kv_heads: int, cached: int
) -> None:
    """By every way to compute it: with a mask or without, in blocks, and however many heads are worked on at once."""
    monkeypatch.setattr(attention, "CACHED_SCORES", cached)
    queries = 2 * heads(*batch, 4, 9, 8, seed=0)
    keys, values = (heads(*batch, kv_heads, 12, 8, seed=seed) for seed in (1, 2))
    at = torch.tensor([0, 2, 3, 4, 6, 7, 8, 10, 11])
    mask = None if way == "open" else torch.arange(12) <= at[:, None]
    given = mask if way != "added" or mask is None else added(mask, torch.float32)
    reach = [(2, 3), (5, 7), (9, 12)] if way == "by-reach" else []
    found = attend(queries, keys, values, given, reach)

    assert found.shape == queries.shape
    torch.testing.assert_close(found.double(), by_hand(queries, keys, values, mask), rtol=0, atol=1e-5)


@pytest.mark.parametrize("masked", [False, True])
def test_bfloat16_is_scaled_and_masked_alike(*, masked: bool) -> None:
    """With a mask or without, what comes out is the softmax's within bfloat16's rounding."""
    queries, keys, values = (2 * heads(3, 6, 16, seed=seed).bfloat16() for seed in range(3))
    mask = torch.ones(6, 6, dtype=torch.bool).tril() if masked else None
    found = attend(queries, keys, values, mask)

    assert found.dtype == torch.bfloat16
    torch.testing.assert_close(found.double(), by_hand(queries, keys, values, mask), rtol=0, atol=0.3)


def test_an_added_mask_is_nought_where_a_row_may_look() -> None:
    """And minus infinity elsewhere, in the dtype asked for."""
    mask = torch.tensor([[True, False], [True, True]])

    assert added(mask, torch.bfloat16).tolist() == [[0, -torch.inf], [0, 0]]
    assert added(added(mask, torch.float32), torch.bfloat16).dtype == torch.bfloat16
