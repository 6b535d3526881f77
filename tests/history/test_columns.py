from __future__ import annotations

import pytest
import torch

from stillframe.history.columns import Columns, stacked
from stillframe.models.llama.attention import attend


def columns(slots: int, seed: int = 0) -> Columns:
    """Noise."""
    noise = torch.Generator().manual_seed(seed)
    keys, values = torch.randn(2, 3, 2, slots, 8, generator=noise).unbind(0)
    return Columns(keys, values, torch.randn(slots, generator=noise), torch.arange(slots))


def test_empty_slots_take_no_attention() -> None:
    """A pass over padded columns finds the same as over the columns themselves: empty slots are masked, not zeros."""
    own = columns(5)
    padded = own.padded(9)
    queries = 3 * torch.randn(2, 4, 8, generator=torch.Generator().manual_seed(9))
    found = [attend(queries, each.keys[0], each.values[0], each.bias.expand(4, -1)) for each in (own, padded)]

    torch.testing.assert_close(*found)
    assert padded.slots == 9
    assert torch.equal(padded.ranks[:5], own.ranks)


def test_histories_of_different_lengths_stack() -> None:
    """Each is there in full, and behind it only what is masked."""
    several = [columns(2, seed=1), columns(5, seed=2)]
    batch = stacked(several)

    assert batch.keys.shape == (2, 3, 2, 5, 8)
    for at, one in enumerate(several):
        assert torch.equal(batch.keys[at, :, :, : one.slots], one.keys)
        assert torch.equal(batch.values[at, :, :, : one.slots], one.values)
        assert torch.isneginf(batch.bias[at, one.slots :]).all()


def test_columns_are_never_cut() -> None:
    """Fewer slots than there are is refused."""
    with pytest.raises(ValueError, match="5 slots do not fit 4"):
        columns(5).padded(4)
