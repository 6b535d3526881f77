from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from transformers import LlamaConfig, LlamaForCausalLM

from stillframe.models.llama import eager_attention
from stillframe.models.llama.attention_backend import LayerHook
from stillframe.models.llama.attention_probe import TextAttentionProbe
from stillframe.models.llama.decoder import Decoder, DecoderConfig
from stillframe.models.llama.layout import Mask, TokenLayout
from stillframe.models.llama.runner import DecoderRunner
from stillframe.models.llama.sequence import SequenceSlice, prompt_slice
from stillframe.reuse.kv import FrameKV, KVShape
from stillframe.reuse.plan import ReusePlan

CONFIG = DecoderConfig(61, 32, 48, 3, 4, 2)
ROWS, PATCHES = 10, 6
CPU = torch.device("cpu")


@dataclass(frozen=True)
class Listener:
    """A hook that calls a function, and may need to see every row."""

    call: Callable[[int, Tensor], object]
    text_rows: int | None = None

    def __call__(self, layer: int, rows: Tensor) -> None:
        """See `LayerHook`."""
        self.call(layer, rows)


def run_rows(decoder: Decoder, rows: Tensor, first: int, kv: FrameKV) -> Tensor:
    """One pass over embedded rows [rows, width] from position `first` on -> hidden rows, normed."""
    return DecoderRunner(decoder).forward([SequenceSlice(rows, first, kv)])[0]


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

    assert torch.equal(
        DecoderRunner(decoder).prefill(rows(0), ReusePlan.whole(ROWS, 3, PATCHES, CPU), storage()), expected
    )


@torch.inference_mode()
def test_a_prefill_begins_a_sequence(decoder: Decoder) -> None:
    """What an earlier, longer sequence left behind the prompt is not seen, whether it is whole or thinned."""
    fresh, used = storage(), storage()
    run_rows(decoder, rows(1), 4, used)
    assert used.length == ROWS + 4
    whole = ReusePlan.whole(ROWS, 3, PATCHES, CPU)
    first = [DecoderRunner(decoder).prefill(rows(0), whole, kv) for kv in (fresh, used)]
    then = [DecoderRunner(decoder).prefill(rows(2), plan([0, 3], (1, 2, 2)), kv) for kv in (fresh, used)]

    assert torch.equal(*first)
    assert torch.equal(*then)
    assert used.length == ROWS


@torch.inference_mode()
def test_only_rows_that_last_come_out(decoder: Decoder) -> None:
    """In the order of their positions, the prompt's last row last; a layer's hook sees all that enter it."""
    kv = storage()
    DecoderRunner(decoder).prefill(rows(0), ReusePlan.whole(ROWS, 3, PATCHES, CPU), kv)
    seen: dict[int, int] = {}
    made = plan([0, 5, 2, 4], (1, 2, 4))
    hidden = DecoderRunner(decoder).prefill(
        rows(0), made, kv, Listener(lambda layer, these: seen.update({layer: len(these)}))
    )
    dense = run_rows(decoder, rows(0), 0, storage())

    assert seen == {0: 10, 1: 9, 2: 8, 3: 6}
    torch.testing.assert_close(hidden, dense[[1, 3, 6, 7, 8, 9]], rtol=0, atol=1e-5)


@torch.inference_mode()
def test_rows_go_on_where_a_thinned_prefill_ended(decoder: Decoder) -> None:
    """A token decoded after it sees computed and reused rows alike."""
    kv, dense = storage(), storage()
    for each in (kv, dense):
        DecoderRunner(decoder).prefill(rows(0), ReusePlan.whole(ROWS, 3, PATCHES, CPU), each)
    DecoderRunner(decoder).prefill(rows(0), plan([0, 1, 2, 3, 4, 5, 6], (7, 7, 7)), kv)
    token, at = rows(3)[:1], ROWS

    torch.testing.assert_close(run_rows(decoder, token, at, kv), run_rows(decoder, token, at, dense), rtol=0, atol=1e-5)
    assert kv.length == ROWS + 1


def thinned(*positions: int) -> ReusePlan:
    """One and then more of these positions dropped."""
    return plan([*positions], (1, len(positions) - 1, len(positions)))


@dataclass
class Sight:
    """What a sequence gives to be run, and what it leaves."""

    make: Callable[[Decoder, FrameKV, LayerHook | None], SequenceSlice]
    kv: FrameKV
    seen: dict[int, Tensor] = field(default_factory=dict)

    def sequence(self, decoder: Decoder) -> SequenceSlice:
        """With a hook that remembers the rows it is shown."""
        return self.make(decoder, self.kv, Listener(lambda layer, these: self.seen.update({layer: these.clone()})))

    def left(self, layer: int) -> Tensor:
        """Its keys."""
        return self.kv.keys(layer, self.kv.capacity)


def sights(decoder: Decoder) -> list[Sight]:
    """A keyframe, two delta frames, one with guesses behind it, an action's rows, and one row more."""
    guesses = torch.tensor([3, 1, 4])
    whole = ReusePlan.whole(ROWS, 3, PATCHES, CPU)
    makes = [
        lambda decoder, kv, hook: prompt_slice(decoder, rows(10), whole, kv, hook),
        lambda decoder, kv, hook: prompt_slice(decoder, rows(11), thinned(0, 3, 4), kv, hook),
        lambda decoder, kv, hook: prompt_slice(decoder, rows(12), thinned(1, 2, 5, 6), kv, hook, guesses, read=4),
        lambda _, kv, hook: SequenceSlice(rows(13)[:4], ROWS, kv, hook=hook),
        lambda _, kv, hook: SequenceSlice(rows(14)[:1], ROWS, kv, hook=hook, read=1),
        lambda decoder, kv, hook: prompt_slice(decoder, rows(15), whole, kv, hook, guesses, read=4),
    ]
    made = []
    for seed, make in enumerate(makes):
        kv = storage()
        DecoderRunner(decoder).prefill(rows(20 + seed), whole, kv)
        made.append(Sight(make, kv))
    return made


@pytest.mark.parametrize("order", [[0], [0, 1], [3, 1, 4, 2], [5, 4, 3, 2, 1, 0]])
@torch.inference_mode()
def test_batched_sequences_are_what_each_is_alone(decoder: Decoder, order: list[int]) -> None:
    """Hidden rows, keys and values, and what each hook sees: its own rows, layer by layer, and no other sequence's."""
    together, alone = sights(decoder), sights(decoder)
    hidden = DecoderRunner(decoder).forward([together[at].sequence(decoder) for at in order])
    for at, own in zip(order, hidden, strict=True):
        (expected,) = DecoderRunner(decoder).forward([alone[at].sequence(decoder)])

        torch.testing.assert_close(own, expected, rtol=0, atol=1e-5)
        assert together[at].kv.length == alone[at].kv.length
        assert together[at].seen.keys() == alone[at].seen.keys() == {0, 1, 2, 3}
        for layer in range(CONFIG.num_hidden_layers):
            torch.testing.assert_close(together[at].left(layer), alone[at].left(layer), rtol=0, atol=1e-5)
            torch.testing.assert_close(together[at].seen[layer], alone[at].seen[layer], rtol=0, atol=1e-5)


@torch.inference_mode()
def test_a_sequence_writes_no_other_sequences_storage(decoder: Decoder) -> None:
    """What none of its rows is at stays as it was to the bit, in its own cache as well."""
    for at, made in enumerate(sights(decoder)):
        before = [made.left(layer).clone() for layer in range(3)]
        sequence = made.sequence(decoder)
        DecoderRunner(decoder).forward([sequence, sights(decoder)[(at + 1) % 6].sequence(decoder)])
        for layer in range(3):
            same = (made.left(layer) == before[layer]).all(dim=-1).all(dim=0)
            positions = list(range(sequence.first, sequence.stop))
            for earlier in range(layer):
                if earlier in sequence.kept:
                    positions = [positions[index] for index in sequence.kept[earlier].tolist()]
            gone = set(range(made.kv.capacity)) - set(positions)

            assert same[sorted(gone)].all()
            assert not same[positions].any()


@torch.inference_mode()
def test_of_the_last_layer_only_what_is_read_comes_out(decoder: Decoder) -> None:
    """The same rows as the last of all; keys and values of the others are left all the same."""
    whole = ReusePlan.whole(ROWS, 3, PATCHES, CPU)
    full, part = storage(), storage()
    (every,) = DecoderRunner(decoder).forward([prompt_slice(decoder, rows(0), whole, full)])
    (read,) = DecoderRunner(decoder).forward([prompt_slice(decoder, rows(0), whole, part, read=4)])

    torch.testing.assert_close(read, every[-4:], rtol=0, atol=1e-5)
    assert all(torch.equal(full.keys(layer, ROWS), part.keys(layer, ROWS)) for layer in range(3))


@torch.inference_mode()
def test_what_is_read_may_be_no_more_than_goes_on(decoder: Decoder) -> None:
    """Where fewer rows are left than are read, all of them come out, in order."""
    whole = ReusePlan.whole(ROWS, 3, PATCHES, CPU)
    (every,) = DecoderRunner(decoder).forward([prompt_slice(decoder, rows(0), whole, storage())])
    for read in (ROWS, ROWS + 5):
        (found,) = DecoderRunner(decoder).forward([prompt_slice(decoder, rows(0), whole, storage(), read=read)])
        torch.testing.assert_close(found, every, rtol=0, atol=1e-5)


@pytest.mark.parametrize("at", [0, 3, ROWS - 1])
@torch.inference_mode()
def test_a_single_row_sees_nothing_behind_it(decoder: Decoder, at: int) -> None:
    """Computed again over a full cache it comes out as in the whole pass."""
    kv = storage()
    dense = run_rows(decoder, rows(0), 0, kv)

    torch.testing.assert_close(run_rows(decoder, rows(0)[at : at + 1], at, kv), dense[at : at + 1], rtol=0, atol=1e-5)


@torch.inference_mode()
def test_long_prompts_are_looked_at_block_by_block(decoder: Decoder, monkeypatch: pytest.MonkeyPatch) -> None:
    """However few rows a block has: whole prompts and thinned ones, guesses behind them, rows of an action."""
    left, seen, came = [], [], []
    for block in (10**6, 2, 3):
        monkeypatch.setattr(eager_attention, "BLOCK_ROWS", block)
        given = sights(decoder)
        came.append(DecoderRunner(decoder).forward([made.sequence(decoder) for made in given]))
        left.append([made.left(layer) for made in given for layer in range(3)])
        seen.append([made.seen[layer] for made in given for layer in range(4)])
    for found in (left, seen, came):
        for one, *others in zip(*found, strict=True):
            for other in others:
                torch.testing.assert_close(other, one, rtol=0, atol=1e-5)


@settings(max_examples=settings().max_examples // 2)
@given(count=st.integers(1, 500), behind=st.integers(0, 20), first=st.integers(1, 500), seed=st.integers(0, 2**31))
def test_a_block_reaches_as_far_as_its_last_row(count: int, behind: int, first: int, seed: int) -> None:
    """No key is left out that a row looks at, none is looked at in vain; the last block may see all there are."""
    at = sorted(np.random.default_rng(seed).permutation(600)[:count].tolist())
    keys, blocks = at[-1] + 1 + behind, len(at) // eager_attention.BLOCK_ROWS
    reach = eager_attention._reach(torch.tensor(at), keys)
    rows = min(first, len(at))
    cut = eager_attention._up_to(reach, rows)

    assert len(reach) == (blocks if blocks > 1 else 0)
    assert bool(cut) == bool(reach)
    for found, end in ((reach, len(at)), (cut, rows)):
        begin = 0
        for stop, seen in found:
            assert begin < stop <= end
            assert seen > at[stop - 1]
            begin = stop
        assert begin == (end if found else 0)
    assert [seen for _, seen in reach[:-1]] == [at[stop - 1] + 1 for stop, _ in reach[:-1]]
    assert cut[:-1] == reach[: len(cut) - 1] if cut else True
    assert not cut or cut[-1][1] == reach[len(cut) - 1][1]


def test_a_gpu_is_not_waited_for() -> None:
    """How far blocks look is known only where positions can be read at once."""
    assert eager_attention._reach(torch.empty(400, dtype=torch.long, device="meta"), 400) == []


@torch.inference_mode()
def test_a_hook_sees_the_prompt_alone(decoder: Decoder) -> None:
    """The same rows with guesses behind them, with none, and with a draft in which nothing is guessed."""
    heard: list[dict[int, Tensor]] = []
    made = plan([0, 5, 2], (1, 2, 3))
    for guesses in (None, torch.tensor([3, 1, 4]), torch.empty(0, dtype=torch.long)):
        heard.append({})
        kv, into = storage(), heard[-1]
        DecoderRunner(decoder).prefill(rows(1), ReusePlan.whole(ROWS, 3, PATCHES, CPU), kv)
        listener = Listener(lambda layer, these, into=into: into.update({layer: these}))
        DecoderRunner(decoder).prefill(rows(0), made, kv, listener, guesses)

    assert [len(these) for these in heard[0].values()] == [10, 9, 8, 7]
    for other in heard[1:]:
        for layer, these in heard[0].items():
            torch.testing.assert_close(other[layer], these, rtol=0, atol=1e-5)


def test_a_sequence_says_how_many_rows_its_hook_needs(decoder: Decoder) -> None:
    """A text's hook sees so many of the last rows, the guesses behind them included; of any other it is not known."""
    layout = TokenLayout({"front": range(1, 7)}, (2, 3), range(7, 9), range(ROWS, ROWS + 4))
    whole, guesses = ReusePlan.whole(ROWS, 3, PATCHES, CPU), torch.tensor([3, 1, 4])
    hook = TextAttentionProbe(decoder, layout, [], every_layer=False)

    assert prompt_slice(decoder, rows(0), whole, storage(), hook).hook_rows == 3
    assert prompt_slice(decoder, rows(0), whole, storage(), hook, guesses).hook_rows == 6
    assert prompt_slice(decoder, rows(0), whole, storage(), Listener(lambda *_: None)).hook_rows is None
    assert prompt_slice(decoder, rows(0), whole, storage()).hook_rows is None


class Playing:
    """Stands for what replays captured passes."""

    def __init__(self, found: list[Tensor] | None):
        self.found = found
        self.asked: list[int] = []

    def replay(self, sequences: Sequence[SequenceSlice]) -> list[Tensor] | None:
        """What was captured, if anything; the caches are as long as their sequences by then."""
        self.asked += [sequence.kv.length for sequence in sequences]
        return self.found


@pytest.mark.parametrize("recorded", [True, False])
@torch.inference_mode()
def test_what_was_captured_is_replayed_and_the_rest_computed(decoder: Decoder, *, recorded: bool) -> None:
    """The graphs are asked first, over caches that have room; where it has nothing the pass is run."""
    replayed = [torch.ones(1, CONFIG.hidden_size)]
    playing = Playing(replayed if recorded else None)
    expected = run_rows(decoder, rows(0), 0, storage())
    kv = storage()
    (found,) = DecoderRunner(decoder, playing).forward([SequenceSlice(rows(0), 0, kv)])

    assert playing.asked == [ROWS]
    assert torch.equal(found, replayed[0] if recorded else expected)
    assert kv.keys(0, ROWS).any() != recorded


def both_ways(decoder: Decoder, seed: int, made: ReusePlan, kv: FrameKV) -> Tensor:
    """A pass in which all rows attend to all."""
    (hidden,) = DecoderRunner(decoder).forward([prompt_slice(decoder, rows(seed), made, kv, mask=Mask.BIDIRECTIONAL)])
    return hidden


@torch.inference_mode()
def test_a_bidirectional_pass_is_the_oracles_under_a_full_mask(decoder: Decoder) -> None:
    """Transformers' Llama with every row visible to every other gives the same hidden rows; a causal one does not."""
    sizes = {name: getattr(CONFIG, name) for name in CONFIG.__dataclass_fields__ if name != "rope_theta"}
    rope = {"rope_type": "default", "rope_theta": CONFIG.rope_theta}
    oracle = LlamaForCausalLM(LlamaConfig(**sizes, rope_parameters=rope, attn_implementation="eager")).eval()
    oracle.load_state_dict(decoder.state_dict(), strict=True)
    everything = torch.zeros(1, 1, ROWS, ROWS)
    expected = oracle.model(inputs_embeds=rows(0)[None], attention_mask=everything, use_cache=False)[0][0]
    whole = ReusePlan.whole(ROWS, 3, PATCHES, CPU)

    torch.testing.assert_close(both_ways(decoder, 0, whole, storage()), expected, rtol=0, atol=1e-5)
    causal = DecoderRunner(decoder).prefill(rows(0), whole, storage())
    assert (causal - expected).abs().max() > 1e-2


@torch.inference_mode()
def test_a_thinned_bidirectional_pass_over_its_own_keys_is_the_whole_one(decoder: Decoder) -> None:
    """Dropped rows' keys stay visible to all that are left, those before them included."""
    kv = storage()
    whole = both_ways(decoder, 0, ReusePlan.whole(ROWS, 3, PATCHES, CPU), kv)
    left = both_ways(decoder, 0, plan([5, 2, 4], (1, 2, 3)), kv)

    torch.testing.assert_close(left, whole[[0, 1, 3, 6, 7, 8, 9]], rtol=0, atol=1e-5)


@torch.inference_mode()
def test_sequences_of_both_masks_share_a_pass(decoder: Decoder) -> None:
    """Each attends as it says, to its own rows."""
    whole = ReusePlan.whole(ROWS, 3, PATCHES, CPU)
    masks = (Mask.BIDIRECTIONAL, Mask.CAUSAL, Mask.BIDIRECTIONAL)
    together = DecoderRunner(decoder).forward(
        [prompt_slice(decoder, rows(at), whole, storage(), mask=mask) for at, mask in enumerate(masks)]
    )

    for at, (mask, own) in enumerate(zip(masks, together, strict=True)):
        (alone,) = DecoderRunner(decoder).forward([prompt_slice(decoder, rows(at), whole, storage(), mask=mask)])
        torch.testing.assert_close(own, alone, rtol=0, atol=1e-5)
