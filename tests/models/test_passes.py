from __future__ import annotations

import pytest
import torch
from torch import Tensor

from stillframe.models.decoder import Decoder, DecoderConfig
from stillframe.models.passes import prefill, run_rows
from stillframe.reuse.kv import FrameKV, KVShape
from stillframe.reuse.plan import ReusePlan

CONFIG = DecoderConfig(61, 32, 48, 3, 4, 2)
ROWS, PATCHES = 10, 6
CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def decoder() -> Decoder:
    """Random weights."""
    torch.manual_seed(4)
    return Decoder(CONFIG).eval().requires_grad_(requires_grad=False)


def rows(seed: int) -> Tensor:
    """Embedded rows of a prompt."""
    return torch.randn(ROWS, CONFIG.hidden_size, generator=torch.Generator().manual_seed(seed))


def storage() -> FrameKV:
    """Room for the prompt and four tokens more."""
    return FrameKV(KVShape(3, 2, 8, ROWS + 4, torch.float32, CPU).allocate())


def plan(order: list[int], counts: tuple[int, ...]) -> ReusePlan:
    """Some positions dropped."""
    none = torch.zeros(PATCHES, dtype=torch.bool)
    patches = torch.tensor([position - 1 for position in order if position], dtype=torch.long)
    return ReusePlan(ROWS, torch.tensor(order, dtype=torch.long), counts, patches, none, none)


@torch.inference_mode()
def test_a_whole_prefill_is_one_pass_over_all_rows(decoder: Decoder) -> None:
    """The same as running the rows from position 0 on."""
    expected = run_rows(decoder, rows(0), 0, storage())

    assert torch.equal(prefill(decoder, rows(0), ReusePlan.whole(ROWS, 3, PATCHES, CPU), storage()), expected)


@torch.inference_mode()
def test_a_prefill_begins_a_sequence(decoder: Decoder) -> None:
    """What an earlier, longer sequence left behind the prompt is not seen, whether it is whole or thinned."""
    fresh, used = storage(), storage()
    run_rows(decoder, rows(1), 4, used)
    assert used.length == ROWS + 4
    whole = ReusePlan.whole(ROWS, 3, PATCHES, CPU)
    first = [prefill(decoder, rows(0), whole, kv) for kv in (fresh, used)]
    then = [prefill(decoder, rows(2), plan([0, 3], (1, 2, 2)), kv) for kv in (fresh, used)]

    assert torch.equal(*first)
    assert torch.equal(*then)
    assert used.length == ROWS


@torch.inference_mode()
def test_only_rows_that_last_come_out(decoder: Decoder) -> None:
    """In the order of their positions, the prompt's last row last; a layer's tap sees all that enter it."""
    kv = storage()
    prefill(decoder, rows(0), ReusePlan.whole(ROWS, 3, PATCHES, CPU), kv)
    seen: dict[int, int] = {}
    made = plan([0, 5, 2, 4], (1, 2, 4))
    hidden = prefill(decoder, rows(0), made, kv, lambda layer, these: seen.update({layer: len(these)}))
    dense = run_rows(decoder, rows(0), 0, storage())

    assert seen == {0: 10, 1: 9, 2: 8, 3: 6}
    torch.testing.assert_close(hidden, dense[[1, 3, 6, 7, 8, 9]], rtol=0, atol=1e-5)


@torch.inference_mode()
def test_rows_go_on_where_a_thinned_prefill_ended(decoder: Decoder) -> None:
    """A token decoded after it sees computed and reused rows alike."""
    kv, dense = storage(), storage()
    for each in (kv, dense):
        prefill(decoder, rows(0), ReusePlan.whole(ROWS, 3, PATCHES, CPU), each)
    prefill(decoder, rows(0), plan([0, 1, 2, 3, 4, 5, 6], (7, 7, 7)), kv)
    token, at = rows(3)[:1], ROWS

    torch.testing.assert_close(run_rows(decoder, token, at, kv), run_rows(decoder, token, at, dense), rtol=0, atol=1e-5)
    assert kv.length == ROWS + 1
