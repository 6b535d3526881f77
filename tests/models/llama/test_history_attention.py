from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import pytest
import torch
from torch import Tensor

from stillframe.history.columns import Columns
from stillframe.history.pooling import Pooling
from stillframe.history.store import ChunkShape, History, Rules
from stillframe.models.llama import eager_attention
from stillframe.models.llama.attention import added
from stillframe.models.llama.attention_backend import MaskedAttention
from stillframe.models.llama.decoder import Decoder, DecoderConfig
from stillframe.models.llama.history_attention import HistoryKV, image_tokens
from stillframe.models.llama.layout import TokenLayout
from stillframe.models.llama.runner import DecoderRunner
from stillframe.models.llama.sequence import SequenceSlice, prompt_slice
from stillframe.reuse.kv import FrameKV, KVShape
from stillframe.reuse.plan import ReusePlan

CONFIG = DecoderConfig(61, 32, 48, 3, 4, 2)  # two query heads share a key head
PATCHES, TEXT, ACTION = 6, 4, 3
LAYOUT = TokenLayout({"front": range(1, 1 + PATCHES)}, (2, 3), range(7, 11), range(11, 14))
ROWS = LAYOUT.prompt_rows
CPU = torch.device("cpu")
WHOLE = ReusePlan.whole(ROWS, 3, PATCHES, CPU)


@dataclass(frozen=True)
class Listener:
    """A hook that calls a function, and may need to see every row."""

    call: Callable[[int, Tensor], object]
    text_rows: int | None = None

    def __call__(self, layer: int, rows: Tensor) -> None:
        """See `LayerHook`."""
        self.call(layer, rows)


@pytest.fixture(scope="module")
def decoder() -> Decoder:
    """Random weights, loud enough that attention is no mean."""
    torch.manual_seed(4)
    made = Decoder(CONFIG).eval().requires_grad_(requires_grad=False)
    for layer in made.model.layers:
        layer.self_attn.q_proj.weight *= 6  # type: ignore[union-attr,operator]  # torch types layers as tensors
    return made


def rows(seed: int, count: int = ROWS) -> Tensor:
    """Embedded rows."""
    return torch.randn(count, CONFIG.hidden_size, generator=torch.Generator().manual_seed(seed))


def storage() -> FrameKV:
    """Room for the prompt and the action."""
    return FrameKV(KVShape(3, 2, 8, LAYOUT.total_rows, torch.float32, CPU).allocate())


def remembered(decoder: Decoder, frames: int, tokens: int = PATCHES, slots: int = 2, seed: int = 100) -> Columns:
    """What a history holds after so many frames of noise, all of which it keeps."""
    history = History(ChunkShape(3, 2, 8, tokens, slots, torch.float32, CPU), Rules(None, PATCHES // tokens))
    pooling = Pooling(3, 2, 8, slots).requires_grad_(requires_grad=False)
    torch.nn.init.normal_(pooling.query, generator=torch.Generator().manual_seed(1))
    for frame in range(frames):
        kv = storage()
        DecoderRunner(decoder).prefill(rows(seed + frame), WHOLE, kv)
        pooled = pooling.frame(*image_tokens(decoder, kv, LAYOUT), tokens)
        history.add(pooled, np.ones(len(pooled)))
    columns = history.columns()
    assert columns is not None
    return columns


def raw_tokens(decoder: Decoder, seed: int) -> list[tuple[Tensor, Tensor]]:
    """A frame's image keys, never rotated, and its values, in each layer: out of the rows that enter it."""
    entering: dict[int, Tensor] = {}
    positions = torch.arange(ROWS)
    decoder.model(rows(seed), MaskedAttention(positions, positions[:, None] >= positions, entering.__setitem__))
    found = []
    for index, layer in enumerate(decoder.model.layers):
        normed = layer.input_layernorm(entering[index])[1 : 1 + PATCHES]  # type: ignore[operator]  # as above
        pair = layer.self_attn.keys_values(normed)  # type: ignore[union-attr,operator]  # as above
        found.append(tuple(part.unflatten(-1, (2, 8)).transpose(0, 1) for part in pair))
    return found  # type: ignore[return-value]  # pairs


class FullAttention(MaskedAttention):
    """Text rows over raw tokens of an older frame, and all before them: softmax by hand."""

    old: list[tuple[Tensor, Tensor]]

    def attend(self, layer: int, queries: Tensor, keys: Tensor, values: Tensor) -> Tensor:
        """One softmax over everything."""
        keys, values = (torch.cat(pair, dim=1) for pair in zip(self.old[layer], (keys, values), strict=True))
        keys, values = (part.repeat_interleave(2, dim=0) for part in (keys, values))
        at = torch.arange(ROWS)
        seen = torch.cat(((at >= LAYOUT.text.start)[:, None].expand(-1, PATCHES), at[:, None] >= at), dim=1)
        scores = queries @ keys.transpose(1, 2) / 8**0.5
        return torch.softmax(scores + added(seen, torch.float32), dim=-1) @ values


@torch.inference_mode()
def test_single_tokens_worth_all_are_full_attention(decoder: Decoder) -> None:
    """Chunks of one token, u = 1: text sees an older frame's raw tokens as it sees its own frame's."""
    columns = remembered(decoder, frames=1, tokens=1, slots=1)
    places = FullAttention(torch.arange(ROWS), None)
    object.__setattr__(places, "old", raw_tokens(decoder, 100))
    expected = decoder.model(rows(0), places)
    found = prefill_with(decoder, columns)

    torch.testing.assert_close(found, expected, rtol=0, atol=2e-5)
    assert (found[-1] - DecoderRunner(decoder).prefill(rows(0), WHOLE, storage())[-1]).abs().max() > 0.05


@torch.inference_mode()
def test_a_frames_image_does_not_know_its_history(decoder: Decoder) -> None:
    """Image rows come out, and leave keys and values, the same to the bit whatever older frames there are.

    Without any they are the same within rounding: fewer rows are looked at together then.
    """
    histories = [remembered(decoder, frames=3, seed=seed) for seed in (100, 200)]
    left = [storage() for _ in range(3)]
    one, other = (prefill_with(decoder, own, kv) for own, kv in zip(histories, left, strict=False))
    alone = DecoderRunner(decoder).prefill(rows(0), WHOLE, left[2])
    image = [*zip(*(kv.rows(0, LAYOUT.text.start) for kv in left), strict=True)]
    image.append((one[: LAYOUT.text.start], other[: LAYOUT.text.start], alone[: LAYOUT.text.start]))

    for first, second, without in image:
        assert torch.equal(first, second)
        torch.testing.assert_close(first, without, rtol=0, atol=1e-5)
    assert (one - alone)[LAYOUT.text.start :].abs().amax(-1).min() > 1e-3
    assert (one - other)[LAYOUT.text.start :].abs().amax(-1).min() > 1e-3


@torch.inference_mode()
def test_it_works_beside_frame_reuse(decoder: Decoder) -> None:
    """The same picture again, most of its rows reused, with the same older frames: the same answer."""
    columns, kv = remembered(decoder, frames=3), storage()
    dense = prefill_with(decoder, columns, kv)
    order = torch.tensor([0, 1, 2, 3, 5])
    still = torch.zeros(PATCHES, dtype=torch.bool)
    delta = ReusePlan(ROWS, order, (2, 5, 5), torch.tensor([0, 1, 2, 4]), still, still)
    history = HistoryKV.of(decoder, columns, LAYOUT)
    (reused,) = DecoderRunner(decoder).forward([prompt_slice(decoder, rows(0), delta, kv, history=history)])

    torch.testing.assert_close(reused[-TEXT:], dense[-TEXT:], rtol=0, atol=1e-5)


@torch.inference_mode()
def test_robots_side_by_side_recall_each_its_own(decoder: Decoder) -> None:
    """Sequences with histories of different lengths, and one without: each as alone."""
    histories = [
        HistoryKV.of(decoder, remembered(decoder, frames, seed=10 * frames), LAYOUT) if frames else None
        for frames in (2, 0, 5)
    ]
    batch = [
        prompt_slice(decoder, rows(seed), WHOLE, storage(), history=history) for seed, history in enumerate(histories)
    ]
    alone = [
        DecoderRunner(decoder).forward([prompt_slice(decoder, rows(seed), WHOLE, storage(), history=history)])[0]
        for seed, history in enumerate(histories)
    ]

    for together, one in zip(DecoderRunner(decoder).forward(batch), alone, strict=True):
        torch.testing.assert_close(together, one, rtol=0, atol=1e-5)


@torch.inference_mode()
def test_what_follows_the_prompt_looks_as_well(decoder: Decoder) -> None:
    """Guessed tokens in the prefill, the same in a pass of their own, and one by one: the same hidden rows."""
    history, guesses = HistoryKV.of(decoder, remembered(decoder, frames=3), LAYOUT), torch.tensor([3, 4, 5])
    kv = storage()
    sequence = prompt_slice(decoder, rows(0), WHOLE, kv, draft_ids=guesses, read=4, history=history)
    (hidden,) = DecoderRunner(decoder).forward([sequence])
    fed = decoder.embed(guesses)
    (again,) = DecoderRunner(decoder).forward([SequenceSlice(fed, ROWS, kv, history=history)])
    (last,) = DecoderRunner(decoder).forward([SequenceSlice(fed[-1:], ROWS + 2, kv, history=history)])

    assert len(hidden) == 4
    torch.testing.assert_close(again, hidden[1:], rtol=0, atol=1e-5)
    torch.testing.assert_close(last, hidden[3:], rtol=0, atol=1e-5)


@torch.inference_mode()
def test_keys_are_read_before_rotation(decoder: Decoder) -> None:
    """Out of the cache as the projection makes them; their values as they are."""
    kv = storage()
    DecoderRunner(decoder).prefill(rows(7), WHOLE, kv)
    keys, values = image_tokens(decoder, kv, LAYOUT)

    for layer, (raw_keys, raw_values) in enumerate(raw_tokens(decoder, 7)):
        torch.testing.assert_close(keys[layer], raw_keys, rtol=0, atol=1e-5)
        torch.testing.assert_close(values[layer], raw_values, rtol=0, atol=1e-5)


@torch.inference_mode()
def test_order_is_what_ranks_say(decoder: Decoder) -> None:
    """The same slots in another place of memory are the same; of another rank they are something else."""
    columns = remembered(decoder, frames=3)
    shuffled = torch.tensor([4, 5, 0, 1, 2, 3])
    moved = Columns(
        columns.keys[:, :, shuffled], columns.values[:, :, shuffled], columns.bias[shuffled], columns.ranks[shuffled]
    )
    found = prefill_with(decoder, columns)

    torch.testing.assert_close(prefill_with(decoder, moved), found, rtol=0, atol=1e-5)
    assert (prefill_with(decoder, replace(columns, ranks=columns.ranks.flip(0))) - found).abs().max() > 1e-3


@torch.inference_mode()
def test_a_weights_hook_sees_where_rows_attend(decoder: Decoder) -> None:
    """Each layer's weights on the slots, of the rows that look there; together with the rest they make one."""
    heard: dict[int, Tensor] = {}
    columns = remembered(decoder, frames=3)
    history = HistoryKV.of(decoder, columns.padded(9), LAYOUT, weights_hook=heard.__setitem__)
    DecoderRunner(decoder).forward([prompt_slice(decoder, rows(0), WHOLE, storage(), history=history)])

    assert {layer: tuple(weights.shape) for layer, weights in heard.items()} == dict.fromkeys(range(3), (4, TEXT, 9))
    for weights in heard.values():
        assert (weights[..., :6] > 0).all()
        assert (weights[..., 6:] == 0).all()
        assert (weights.sum(-1) < 1).all()


@torch.inference_mode()
def test_weights_are_a_softmax_over_older_frames_and_their_own(decoder: Decoder) -> None:
    """Each layer's weights by hand: scaled, biased by what a slot is worth, causal, each head over its own group."""
    heard: dict[int, Tensor] = {}
    entering: dict[int, Tensor] = {}
    columns, kv = remembered(decoder, frames=3), storage()
    columns = replace(columns, bias=columns.bias + torch.linspace(-1, 1, len(columns.bias)))
    history = HistoryKV.of(decoder, columns, LAYOUT, weights_hook=heard.__setitem__)
    DecoderRunner(decoder).forward(
        [prompt_slice(decoder, rows(0), WHOLE, kv, Listener(entering.__setitem__), history=history)]
    )
    text = torch.arange(LAYOUT.text.start, LAYOUT.text.stop)

    for layer, weights in heard.items():
        queries = decoder.model.queries(layer, entering[layer][-TEXT:], text)
        for head, asked in enumerate(queries):
            older = asked @ history.keys[layer, head // 2].T / 8**0.5 + columns.bias
            own = asked @ kv.keys(layer, ROWS)[head // 2].T / 8**0.5
            own = own.masked_fill(torch.arange(ROWS) > text[:, None], -torch.inf)
            expected = torch.softmax(torch.cat((older, own), dim=1), dim=-1)[:, : len(columns.bias)]

            torch.testing.assert_close(weights[head], expected, rtol=0, atol=1e-5)


@torch.inference_mode()
def test_exactly_the_rows_from_the_text_on_look_back(decoder: Decoder) -> None:
    """From the first text row to the last guess, in the prompt, thinned, and behind it; the picture's never do."""
    columns, guesses = remembered(decoder, frames=3), torch.tensor([3, 4, 5])
    history = HistoryKV.of(decoder, columns, LAYOUT)
    still = torch.zeros(PATCHES, dtype=torch.bool)
    delta = ReusePlan(ROWS, torch.tensor([0, 2, 5]), (1, 2, 3), torch.tensor([1, 4]), still, still)
    for plan in (WHOLE, delta):
        found = []
        for looking in (history, None):
            kv = storage()
            DecoderRunner(decoder).prefill(rows(0), WHOLE, kv)
            found += DecoderRunner(decoder).forward(
                [prompt_slice(decoder, rows(0), plan, kv, draft_ids=guesses, history=looking)]
            )
        moved = (found[0] - found[1]).abs().amax(-1) > 1e-4
        left = [row for row in range(ROWS + 3) if row not in plan.order[: plan.counts[-1]].tolist()]

        assert [row for row, other in zip(left, moved.tolist(), strict=True) if other] == [*range(7, ROWS + 3)]


@torch.inference_mode()
def test_long_prompts_look_back_block_by_block(decoder: Decoder, monkeypatch: pytest.MonkeyPatch) -> None:
    """The picture's rows in blocks of any size, the text's with older frames: the same rows come out."""
    columns, guesses = remembered(decoder, frames=3), torch.tensor([3, 4, 5])
    history, still = HistoryKV.of(decoder, columns, LAYOUT), torch.zeros(PATCHES, dtype=torch.bool)
    delta = ReusePlan(ROWS, torch.tensor([0, 2, 5]), (1, 2, 3), torch.tensor([1, 4]), still, still)
    expected: list[Tensor] = []
    for block in (10**6, 2, 3, 4):
        monkeypatch.setattr(eager_attention, "BLOCK_ROWS", block)
        found = []
        for plan in (WHOLE, delta):
            kv = storage()
            DecoderRunner(decoder).prefill(rows(0), WHOLE, kv)
            found += DecoderRunner(decoder).forward(
                [prompt_slice(decoder, rows(1), plan, kv, draft_ids=guesses, history=history)]
            )
        expected = expected or found
        for one, other in zip(expected, found, strict=True):
            torch.testing.assert_close(other, one, rtol=0, atol=1e-5)


@torch.inference_mode()
def test_ranks_past_the_last_position_are_the_last(decoder: Decoder) -> None:
    """An episode may be longer than the decoder's positions are; up to there every rank is its own."""
    torch.manual_seed(4)
    short = Decoder(replace(CONFIG, max_position_embeddings=4))
    columns = remembered(decoder, frames=3)
    far, last, before = (
        HistoryKV.of(short, replace(columns, ranks=torch.full_like(columns.ranks, rank)), LAYOUT).keys
        for rank in (100, 3, 2)
    )

    assert torch.equal(far, last)
    assert not torch.equal(last, before)


@torch.inference_mode()
def test_who_is_not_watched_looks_at_the_same(decoder: Decoder) -> None:
    """Later passes do not overwrite where the prompt looked."""
    history = HistoryKV.of(decoder, remembered(decoder, frames=2), LAYOUT, weights_hook=lambda *_: None)
    alone = history.without_hook()

    assert history.weights_hook is not None
    assert alone.weights_hook is None
    assert alone == replace(history, weights_hook=None)
    assert alone.first == LAYOUT.text.start


def prefill_with(decoder: Decoder, columns: Columns, kv: FrameKV | None = None) -> Tensor:
    """A whole prompt that recalls."""
    history = HistoryKV.of(decoder, columns, LAYOUT)
    (hidden,) = DecoderRunner(decoder).forward(
        [prompt_slice(decoder, rows(0), WHOLE, kv or storage(), history=history)]
    )
    return hidden
