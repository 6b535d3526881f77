from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import pytest
import torch
from torch import Tensor

from stillframe.models.decoder import Decoder, DecoderConfig, Tap
from stillframe.models.passes import Strand, prefill, prompt, run, run_rows
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


def thinned(*positions: int) -> ReusePlan:
    """One and then more of these positions dropped."""
    return plan([*positions], (1, len(positions) - 1, len(positions)))


@dataclass
class Sight:
    """What a strand gives to be run, and what it leaves."""

    make: Callable[[Decoder, FrameKV, Tap | None], Strand]
    kv: FrameKV
    seen: dict[int, Tensor] = field(default_factory=dict)

    def strand(self, decoder: Decoder) -> Strand:
        """With a tap that remembers the rows it is shown."""
        return self.make(decoder, self.kv, lambda layer, these: self.seen.update({layer: these.clone()}))

    def left(self, layer: int) -> Tensor:
        """Its keys."""
        return self.kv.keys(layer, self.kv.capacity)


def sights(decoder: Decoder) -> list[Sight]:
    """A keyframe, two delta frames, one with guesses behind it, an action's rows, and one row more."""
    guesses = torch.tensor([3, 1, 4])
    whole = ReusePlan.whole(ROWS, 3, PATCHES, CPU)
    makes = [
        lambda decoder, kv, tap: prompt(decoder, rows(10), whole, kv, tap),
        lambda decoder, kv, tap: prompt(decoder, rows(11), thinned(0, 3, 4), kv, tap),
        lambda decoder, kv, tap: prompt(decoder, rows(12), thinned(1, 2, 5, 6), kv, tap, guesses, read=4),
        lambda _, kv, tap: Strand(rows(13)[:4], ROWS, kv, tap=tap),
        lambda _, kv, tap: Strand(rows(14)[:1], ROWS, kv, tap=tap, read=1),
        lambda decoder, kv, tap: prompt(decoder, rows(15), whole, kv, tap, guesses, read=4),
    ]
    made = []
    for seed, make in enumerate(makes):
        kv = storage()
        prefill(decoder, rows(20 + seed), whole, kv)
        made.append(Sight(make, kv))
    return made


@pytest.mark.parametrize("order", [[0], [0, 1], [3, 1, 4, 2], [5, 4, 3, 2, 1, 0]])
@torch.inference_mode()
def test_strands_side_by_side_are_what_each_is_alone(decoder: Decoder, order: list[int]) -> None:
    """Hidden rows, keys and values, and what each tap sees: its own rows, layer by layer, and no other strand's."""
    together, alone = sights(decoder), sights(decoder)
    hidden = run(decoder, [together[at].strand(decoder) for at in order])
    for at, own in zip(order, hidden, strict=True):
        (expected,) = run(decoder, [alone[at].strand(decoder)])

        torch.testing.assert_close(own, expected, rtol=0, atol=1e-5)
        assert together[at].kv.length == alone[at].kv.length
        assert together[at].seen.keys() == alone[at].seen.keys() == {0, 1, 2, 3}
        for layer in range(CONFIG.num_hidden_layers):
            torch.testing.assert_close(together[at].left(layer), alone[at].left(layer), rtol=0, atol=1e-5)
            torch.testing.assert_close(together[at].seen[layer], alone[at].seen[layer], rtol=0, atol=1e-5)


@torch.inference_mode()
def test_a_strand_writes_no_other_strands_storage(decoder: Decoder) -> None:
    """What none of its rows is at stays as it was to the bit, in its own cache as well."""
    for at, made in enumerate(sights(decoder)):
        before = [made.left(layer).clone() for layer in range(3)]
        strand = made.strand(decoder)
        run(decoder, [strand, sights(decoder)[(at + 1) % 6].strand(decoder)])
        for layer in range(3):
            same = (made.left(layer) == before[layer]).all(dim=-1).all(dim=0)
            positions = list(range(strand.first, strand.stop))
            for earlier in range(layer):
                if earlier in strand.kept:
                    positions = [positions[index] for index in strand.kept[earlier].tolist()]
            gone = set(range(made.kv.capacity)) - set(positions)

            assert same[sorted(gone)].all()
            assert not same[positions].any()


@torch.inference_mode()
def test_of_the_last_layer_only_what_is_read_comes_out(decoder: Decoder) -> None:
    """The same rows as the last of all; keys and values of the others are left all the same."""
    whole = ReusePlan.whole(ROWS, 3, PATCHES, CPU)
    full, part = storage(), storage()
    (every,) = run(decoder, [prompt(decoder, rows(0), whole, full)])
    (read,) = run(decoder, [prompt(decoder, rows(0), whole, part, read=4)])

    torch.testing.assert_close(read, every[-4:], rtol=0, atol=1e-5)
    assert all(torch.equal(full.keys(layer, ROWS), part.keys(layer, ROWS)) for layer in range(3))
