from __future__ import annotations

import pytest
import torch
from torch import Tensor

from stillframe.models.llama.attention import attend
from stillframe.models.pi0.prefix import PrefixKV
from stillframe.reuse.kv import FrameKV, KVShape

LAYERS, HEADS, HEAD_DIM, LENGTHS, TOGETHER = 2, 4, 8, (9, 12, 7), 5
DTYPES = [torch.float32, torch.bfloat16]


def caches(dtype: torch.dtype, lengths: tuple[int, ...] = LENGTHS) -> list[FrameKV]:
    """One a robot, with something in every position, beyond its length too."""
    shape = KVShape(LAYERS, 1, HEAD_DIM, 20, dtype, torch.device("cpu"))
    made = [
        FrameKV(shape.allocate().normal_(generator=torch.Generator().manual_seed(at))) for at in range(len(lengths))
    ]
    for kv, length in zip(made, lengths, strict=True):
        kv.reserve(length)
    return made


def own_rows(rows: int, dtype: torch.dtype, seed: int = 9) -> tuple[Tensor, Tensor, Tensor]:
    """Queries, keys and values of a pass."""
    random = torch.Generator().manual_seed(seed)
    sizes = ((HEADS, rows), (1, rows), (1, rows))
    queries, keys, values = (torch.randn(len(LENGTHS), *size, HEAD_DIM, generator=random).to(dtype) for size in sizes)
    return queries, keys, values


def expected(kv: FrameKV, length: int, layer: int, queries: Tensor, keys: Tensor, values: Tensor) -> Tensor:
    """One robot's rows over its prefix and all own rows: [heads, rows, head_dim], in float32."""
    held = [part[layer] for part in kv.rows(0, length)]
    seen = [torch.cat((before, fresh), dim=1).float() for before, fresh in zip(held, (keys, values), strict=True)]
    return attend(queries.float(), *seen)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("lengths", [LENGTHS, (9, 9, 9)])
def test_robots_attend_to_their_own_prefix(dtype: torch.dtype, lengths: tuple[int, ...]) -> None:
    """Of one length or several, each to what it would see alone; step after step, layer by layer."""
    held, close = caches(dtype, lengths), 1e-5 if dtype == torch.float32 else 3e-2
    prefix = PrefixKV.of(held, lengths, 0, TOGETHER)
    for layer, seed in ((0, 1), (1, 2), (0, 3)):
        rows = own_rows(TOGETHER, dtype, seed)
        mixed = prefix.attend(layer, *rows)
        for robot, (kv, length) in enumerate(zip(held, lengths, strict=True)):
            alone = expected(kv, length, layer, *(part[robot] for part in rows))
            torch.testing.assert_close(mixed[robot].float(), alone, rtol=0, atol=close)
    assert prefix.positions.tolist() == [*lengths]


def test_a_row_before_the_others_sees_none_of_them() -> None:
    """It sees the prefix and itself; the others see it, in that pass and in those without it."""
    held = caches(torch.float32)
    prefix = PrefixKV.of(held, LENGTHS, 1, TOGETHER)
    first = own_rows(1 + TOGETHER, torch.float32)
    mixed = prefix.attend(0, *first)
    later = own_rows(TOGETHER, torch.float32, seed=4)
    again = prefix.attend(0, *later)
    for robot, (kv, length) in enumerate(zip(held, LENGTHS, strict=True)):
        queries, keys, values = (part[robot] for part in first)
        lone = expected(kv, length, 0, queries[:, :1], keys[:, :1], values[:, :1])
        together = expected(kv, length, 0, queries, keys, values)
        queries, *fresh = (part[robot] for part in later)
        behind = [torch.cat((one[robot, :, :1], other), dim=1) for one, other in zip(first[1:], fresh, strict=True)]

        torch.testing.assert_close(mixed[robot, :, :1], lone, rtol=0, atol=1e-5)
        torch.testing.assert_close(mixed[robot, :, 1:], together[:, 1:], rtol=0, atol=1e-5)
        torch.testing.assert_close(again[robot], expected(kv, length, 0, queries, *behind), rtol=0, atol=1e-5)


def test_a_gradient_goes_through_own_rows_and_later_passes_do_not_spoil_it() -> None:
    """As through rows that were never written; what was written stays for the next pass."""
    held = caches(torch.float32)
    prefix = PrefixKV.of(held, LENGTHS, 1, TOGETHER)
    rows = [part.requires_grad_() for part in own_rows(1 + TOGETHER, torch.float32)]
    mixed = prefix.attend(0, *rows)
    with torch.no_grad():
        prefix.attend(0, *own_rows(TOGETHER, torch.float32, seed=4))
    gradients = torch.autograd.grad(mixed[:, :, 1:].square().sum(), rows)
    parts = [
        expected(kv, length, 0, *(part[robot] for part in rows))
        for robot, (kv, length) in enumerate(zip(held, LENGTHS, strict=True))
    ]
    wanted = torch.autograd.grad(torch.stack(parts)[:, :, 1:].square().sum(), rows)

    for found, one in zip(gradients, wanted, strict=True):
        torch.testing.assert_close(found, one, rtol=0, atol=1e-5)
