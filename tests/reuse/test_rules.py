"""The rules of reuse that a decoder pass has to keep: design, section 6, rules 1 to 4.

`Naive` computes the same layer by layer and row by row, in float64, with arithmetic of its own.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import sqrt

import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from torch import Tensor

from stillframe.models.llama.decoder import Decoder, DecoderConfig
from stillframe.models.llama.runner import DecoderRunner
from stillframe.models.llama.sequence import SequenceSlice
from stillframe.reuse.kv import FrameKV, KVShape
from stillframe.reuse.plan import ReusePlan

CONFIG = DecoderConfig(61, 32, 48, 4, 4, 2)
LAYERS, PATCHES, TEXT, ACTION = 4, 9, 3, 4
ROWS = 1 + PATCHES + TEXT
FP32 = {"rtol": 0, "atol": 2e-5}  # measured: at most 1.5e-6 on hidden rows that are normed to 1
few = settings(max_examples=settings().max_examples // 4, derandomize=True)


def run_rows(decoder: Decoder, rows: Tensor, first: int, kv: FrameKV) -> Tensor:
    """One pass over embedded rows [rows, width] from position `first` on -> hidden rows, normed."""
    return DecoderRunner(decoder).forward([SequenceSlice(rows, first, kv)])[0]


def make_decoder() -> Decoder:
    """Random weights under which every row and every layer matters."""
    random = torch.Generator().manual_seed(7)
    decoder = Decoder(CONFIG).eval().requires_grad_(requires_grad=False)
    for weight in decoder.parameters():
        if weight.dim() == 2:
            weight.copy_(torch.randn(weight.shape, generator=random) * 1.2 / weight.shape[1] ** 0.5)
        else:
            weight.copy_(1 + 0.2 * torch.randn(weight.shape, generator=random))
    return decoder


DECODER = make_decoder()
RUNNER = DecoderRunner(DECODER)


def frame(seed: int) -> Tensor:
    """The rows [ROWS, width] of one frame: BOS and text are the same for all, the patches are not."""
    shared = torch.randn(ROWS, CONFIG.hidden_size, generator=torch.Generator().manual_seed(1000))
    patches = torch.randn(PATCHES, CONFIG.hidden_size, generator=torch.Generator().manual_seed(seed))
    return torch.cat((shared[:1], patches, shared[1 + PATCHES :]))


def storage() -> FrameKV:
    """Empty storage for a prompt and its action."""
    shape = KVShape(LAYERS, 2, CONFIG.head_dim, ROWS + ACTION, torch.float32, torch.device("cpu"))
    return FrameKV(shape.allocate())


def after(rows: Tensor) -> FrameKV:
    """Storage as a dense pass over `rows` leaves it, action included."""
    kv = storage()
    hidden = RUNNER.prefill(rows, whole(), kv)
    greedy(hidden[-1], kv)
    return kv


def greedy(last: Tensor, kv: FrameKV) -> Tensor:
    """The likeliest tokens after the prompt's `last` hidden row, a pass each."""
    ids = [DECODER.logits(last).argmax()]
    for position in range(ROWS, ROWS + ACTION - 1):
        hidden = run_rows(DECODER, DECODER.embed(ids[-1][None]), position, kv)
        ids.append(DECODER.logits(hidden[-1]).argmax())
    return torch.stack(ids)


def whole() -> ReusePlan:
    """Everything computed."""
    return ReusePlan.whole(ROWS, LAYERS, PATCHES, torch.device("cpu"))


def dropping(order: list[int], counts: tuple[int, ...]) -> ReusePlan:
    """A plan over positions; 0 is BOS, the others are patches."""
    patches = torch.tensor([position - 1 for position in order if position], dtype=torch.long)
    none = torch.zeros(PATCHES, dtype=torch.bool)
    return ReusePlan(ROWS, torch.tensor(order, dtype=torch.long), counts, patches, none, none)


def held(kv: FrameKV) -> Tensor:
    """A copy of the prompt's keys and values [layers, 2, kv_heads, ROWS, head_dim]."""
    nothing, nowhere = torch.empty(2, 0, CONFIG.head_dim), torch.empty(0, dtype=torch.long)
    length, kv.length = kv.length, ROWS
    layers = [torch.stack(kv.write(layer, nowhere, nothing, nothing)) for layer in range(LAYERS)]
    kv.length = length
    return torch.stack(layers)


@st.composite
def plans(draw: st.DrawFn) -> ReusePlan:
    """Any BOS and patches, in any order, dropped over the layers in any rising way."""
    order = draw(st.permutations(range(1 + PATCHES)))[: draw(st.integers(1, 1 + PATCHES))]
    counts = sorted(draw(st.lists(st.integers(0, len(order)), min_size=LAYERS, max_size=LAYERS)))
    return dropping(order, tuple(counts))


@dataclass
class Naive:
    """What the rules say, written down row by row."""

    plan: ReusePlan
    stale: Tensor  # [layers, 2, kv_heads, ROWS, head_dim], float64
    blind: bool = False  # rows that were dropped are hidden from attention
    packed: bool = False  # rows count their positions anew, without those that were dropped

    def hidden(self, rows: Tensor) -> Tensor:
        """Normed hidden rows of those that get to the end, in the order of their positions."""
        with_names = {name: weight.double() for name, weight in DECODER.model.state_dict().items()}
        alive = {position: row.double() for position, row in enumerate(rows)}
        for layer in range(LAYERS):
            dropped = set(self.plan.order[: self.plan.counts[layer]].tolist())
            own = {name.split(".", 2)[2]: w for name, w in with_names.items() if name.startswith(f"layers.{layer}.")}
            alive = self._layer(alive, own, layer, dropped)
        final = with_names["norm.weight"]
        return torch.stack([normed(alive[position], final) for position in sorted(alive)])

    def _layer(
        self, alive: dict[int, Tensor], own: dict[str, Tensor], layer: int, dropped: set[int]
    ) -> dict[int, Tensor]:
        keys, values = self.stale[layer].clone()
        counted = {position: place if self.packed else position for place, position in enumerate(sorted(alive))}
        for position, row in alive.items():
            entered = normed(row, own["input_layernorm.weight"])
            key = (own["self_attn.k_proj.weight"] @ entered).view(2, -1)
            keys[:, position] = torch.stack([turned(head, counted[position]) for head in key])
            values[:, position] = (own["self_attn.v_proj.weight"] @ entered).view(2, -1)
        self.stale[layer] = torch.stack((keys, values))
        out = {}
        for position, row in alive.items():
            if position in dropped:
                continue
            entered = normed(row, own["input_layernorm.weight"])
            queries = (own["self_attn.q_proj.weight"] @ entered).view(4, -1)
            seen = [other for other in range(position + 1) if not (self.blind and other in dropped)]
            mixed = []
            for number, query in enumerate(queries):
                turned_query = turned(query, counted[position])
                scores = keys[number // 2, seen] @ turned_query / sqrt(len(query))
                mixed.append(torch.softmax(scores, 0) @ values[number // 2, seen])
            row = row + own["self_attn.o_proj.weight"] @ torch.cat(mixed)
            entered = normed(row, own["post_attention_layernorm.weight"])
            gate, up = own["mlp.gate_proj.weight"] @ entered, own["mlp.up_proj.weight"] @ entered
            out[position] = row + own["mlp.down_proj.weight"] @ (gate / (1 + torch.exp(-gate)) * up)
        return out


def normed(row: Tensor, weight: Tensor) -> Tensor:
    """Root-mean-square norm of one row."""
    return weight * row / sqrt(float((row * row).mean()) + CONFIG.rms_norm_eps)


def turned(head: Tensor, position: int) -> Tensor:
    """Rotary position as complex numbers: entry i pairs with entry i + dim / 2."""
    pairs = torch.complex(*head.chunk(2))
    angles = position / CONFIG.rope_theta ** (torch.arange(len(pairs)).double() * 2 / len(head))
    out = pairs * torch.polar(torch.ones_like(angles), angles)
    return torch.cat((out.real, out.imag))


@few
@given(order=st.permutations(range(1 + PATCHES)), old=st.integers(0, 3))
@torch.inference_mode()
def test_an_empty_reuse_set_is_the_dense_pass_to_the_bit(order: list[int], old: int) -> None:
    """Rule 1: whatever could be reused and whatever lies in the storage, nothing reused is nothing changed."""
    rows, stale, fresh = frame(9), after(frame(old)), storage()
    dense = run_rows(DECODER, rows, 0, fresh)

    for plan in (whole(), dropping(order, (0,) * LAYERS)):
        hidden = RUNNER.prefill(rows, plan, stale)
        assert torch.equal(hidden, dense)
        assert torch.equal(held(stale), held(fresh))
        tokens = greedy(hidden[-1], stale)
        expected = greedy(dense[-1], fresh)
        assert torch.equal(tokens, expected)


@few
@given(plan=plans(), seed=st.integers(0, 50))
@torch.inference_mode()
def test_reusing_a_frame_for_itself_changes_nothing(plan: ReusePlan, seed: int) -> None:
    """Rule 2: over the same rows every plan gives the dense pass's hidden rows within rounding, and its tokens."""
    rows = frame(seed)
    dense_kv = storage()
    dense = RUNNER.prefill(rows, whole(), dense_kv)
    expected = greedy(dense[-1], dense_kv)
    kv = after(rows)
    hidden = RUNNER.prefill(rows, plan, kv)
    tokens = greedy(hidden[-1], kv)
    left = [position for position in range(ROWS) if position not in plan.order[: plan.counts[-1]].tolist()]

    torch.testing.assert_close(hidden, dense[left], **FP32)
    assert torch.equal(tokens, expected)


@torch.inference_mode()
def test_with_everything_reused_only_the_text_is_computed() -> None:
    """Rule 2 at its end: BOS and all patches reused in every layer leave the text's rows, equal within rounding."""
    rows = frame(3)
    kv = storage()
    dense = RUNNER.prefill(rows, whole(), kv)
    hidden = RUNNER.prefill(rows, dropping([*range(1 + PATCHES)], (1 + PATCHES,) * LAYERS), kv)

    assert len(hidden) == TEXT
    torch.testing.assert_close(hidden, dense[-TEXT:], **FP32)


@few
@given(plan=plans(), old=st.integers(0, 20), new=st.integers(30, 50))
@torch.inference_mode()
def test_dropped_rows_keep_their_keys_and_values(plan: ReusePlan, old: int, new: int) -> None:
    """Rule 3: after the layer in which a row leaves it stays to the bit, until then it is written, layer by layer."""
    kv = after(frame(old))
    before = held(kv)
    RUNNER.prefill(frame(new), plan, kv)
    now = held(kv)

    for layer, count in enumerate((0, *plan.counts[:-1])):
        dropped = set(plan.order[:count].tolist())  # in an earlier layer than this one
        for position in range(ROWS):
            same = torch.equal(now[layer, :, :, position], before[layer, :, :, position])
            # BOS sees only itself, and the text's rows are the same before the first layer
            alike = position == 0 or (layer == 0 and position > PATCHES)
            assert same if position in dropped else alike or not same, (layer, position)


@few
@given(plan=plans(), old=st.integers(0, 20), new=st.integers(30, 50))
@torch.inference_mode()
def test_a_thinned_pass_agrees_with_the_naive_one(plan: ReusePlan, old: int, new: int) -> None:
    """Rules 3 and 4: stale rows are seen, positions are absolute; hidden rows, keys and values agree everywhere."""
    kv = after(frame(old))
    naive = Naive(plan, held(kv).double())
    hidden = RUNNER.prefill(frame(new), plan, kv)
    expected = naive.hidden(frame(new))

    torch.testing.assert_close(hidden.double(), expected, **FP32)
    torch.testing.assert_close(held(kv).double(), naive.stale, **FP32)


@pytest.mark.parametrize("wrong", ["blind", "packed"])
@torch.inference_mode()
def test_masking_or_renumbering_would_be_seen(wrong: str) -> None:
    """Rules 3 and 4: neither hiding dropped rows nor counting positions anew gives what a thinned pass gives."""
    plan = dropping([2, 5, 7, 8], (1, 2, 4, 4))
    kv = after(frame(0))
    other = Naive(plan, held(kv).double(), **{wrong: True}).hidden(frame(30))
    hidden = RUNNER.prefill(frame(30), plan, kv).double()

    assert (hidden[-TEXT:] - other[-TEXT:]).abs().amax(-1).min() > 1e-3


@few
@given(plan=plans(), old=st.integers(0, 20), new=st.integers(30, 50))
@torch.inference_mode()
def test_reusing_bos_is_exact(plan: ReusePlan, old: int, new: int) -> None:
    """Rule 4: BOS has the same keys and values in every frame, so a plan with it equals the plan without it."""
    assume(0 in plan.order.tolist())
    counts = [sum(position != 0 for position in plan.order[:count].tolist()) for count in plan.counts]
    without = dropping([position for position in plan.order.tolist() if position], tuple(counts))
    kv, other = after(frame(old)), after(frame(old))
    with_bos, computed = RUNNER.prefill(frame(new), plan, kv), RUNNER.prefill(frame(new), without, other)

    torch.testing.assert_close(held(kv)[:, :, :, 0], held(after(frame(new)))[:, :, :, 0], **FP32)
    torch.testing.assert_close(with_bos[-TEXT:], computed[-TEXT:], **FP32)
    torch.testing.assert_close(held(kv), held(other), **FP32)


@settings(few, max_examples=settings().max_examples // 12)
@given(data=st.data(), seed=st.integers(0, 20))
@torch.inference_mode()
def test_staleness_adds_up_over_frames_as_written(data: st.DataObject, seed: int) -> None:
    """Rule 3 over a run of frames: storage carries each row's last computed values on, whatever the plans were."""
    kv = after(frame(seed))
    stale = held(kv).double()
    for number in range(3):
        plan = data.draw(plans())
        naive = Naive(plan, stale)
        hidden = RUNNER.prefill(frame(100 + number), plan, kv)
        torch.testing.assert_close(hidden.double(), naive.hidden(frame(100 + number)), **FP32)
        greedy(hidden[-1], kv)
        stale = naive.stale
