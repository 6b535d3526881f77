"""Pruned prompts, held against a plain loop over layers in which a pruned row is masked from every other's sight."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cache

import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from torch import Tensor

from stillframe.domain import DraftMode
from stillframe.models.base import Prefilled, Prepared
from stillframe.models.llama import eager_attention
from stillframe.models.llama.decoder import Decoder, DecoderConfig, DecoderLayer
from stillframe.models.llama.draft import Draft
from stillframe.models.llama.layout import Mask, TokenLayout
from stillframe.models.llama.pruning import PromptPruning
from stillframe.models.llama.runner import DecoderRunner
from stillframe.models.llama.sequence import SequenceSlice, prompt_slice
from stillframe.models.llama.speculative import DecodeResult, speculative_decode
from stillframe.reuse.kv import FrameKV, KVShape
from stillframe.reuse.plan import ReusePlan
from stillframe.reuse.pruning import FastV, Method, SparseVLM, ToMe

LAYERS, TOKENS, PATCHES, TEXT = 4, 4, 30, 5
CONFIG = DecoderConfig(61, 32, 48, LAYERS, 4, 2)
CPU, DOUBLE = torch.device("cpu"), torch.float64  # no two scores are as good as equal there
ROWS = 1 + PATCHES + TEXT
LAYOUT = TokenLayout(
    {"front": range(1, 13), "wrist": range(13, 1 + PATCHES)},
    (4, 3),
    range(1 + PATCHES, ROWS),
    range(ROWS, ROWS + TOKENS),
)
# All rows see all: a row of a state, and behind the text the places of seven numbers and what ends them.
WHOLE = TokenLayout(
    LAYOUT.patches,
    LAYOUT.patch_grid,
    range(2 + PATCHES, 1 + ROWS),
    range(1 + ROWS, 8 + ROWS),
    state=range(1 + PATCHES, 2 + PATCHES),
    tail=range(8 + ROWS, 9 + ROWS),
    mask=Mask.BIDIRECTIONAL,
)
layouts = st.sampled_from([LAYOUT, WHOLE])
some = settings(max_examples=max(10, settings().max_examples // 4), derandomize=True)
seeds = st.integers(0, 2**31)
shares = st.sampled_from([0.0, 0.2, 0.5, 0.75, 0.9, 1.0])
fastv = st.builds(FastV, layer=st.integers(1, LAYERS + 1), ratio=shares)
sparsevlm = st.builds(
    SparseVLM,
    layers=st.lists(st.integers(0, LAYERS), min_size=1, max_size=3, unique=True).map(tuple),
    scale=st.sampled_from([0.5, 3.0, 6.0, 50.0]),
    bias=st.sampled_from([-2.0, 0.0, 5.0]),
    recycle=shares,
)
tome = st.builds(
    ToMe,
    layers=st.lists(st.integers(0, LAYERS), min_size=1, max_size=3, unique=True).map(tuple),
    ratio=st.sampled_from([0.0, 0.1, 0.3, 0.5]),
)
methods = fastv | sparsevlm | tome


@cache
def decoder() -> Decoder:
    """Random weights whose attention differs from row to row."""
    torch.manual_seed(4)
    made = Decoder(CONFIG).to(DOUBLE).eval().requires_grad_(requires_grad=False)
    for weight in made.parameters():
        if weight.dim() == 2:
            weight.copy_(torch.randn_like(weight) * 1.5 / weight.shape[1] ** 0.5)
    made.batch_invariant = True
    return made


def prompt_rows(seed: int, layout: TokenLayout = LAYOUT) -> Tensor:
    """Embedded rows of a prompt; some patches are alike, as patches are, and places of the action are zeros."""
    random = torch.Generator().manual_seed(seed)
    rows = torch.randn(layout.prompt_rows, CONFIG.hidden_size, generator=random, dtype=DOUBLE)
    rows[1 : 1 + PATCHES] = rows[1 + torch.arange(PATCHES) // 3] + 0.1 * rows[1 : 1 + PATCHES]
    rows[layout.places.start : layout.places.stop] = 0
    return rows


def storage(layout: TokenLayout = LAYOUT) -> FrameKV:
    """Room for prompt and action, full of what must not be seen."""
    kv = KVShape(LAYERS, 2, 8, layout.total_rows, DOUBLE, CPU).allocate()
    return FrameKV(kv.fill_(torch.nan))


@dataclass
class Plain:
    """The methods as they are written down, one row and one layer after the other."""

    method: Method | None
    rows: Tensor  # [rows, width]: prompt, and what is decoded so far
    layout: TokenLayout = LAYOUT

    def __post_init__(self) -> None:
        self.there = [True] * len(self.rows)
        self.sizes = [1] * len(self.rows)

    @property
    def patches(self) -> list[int]:
        """Positions of those that are left."""
        return [at for at in range(1, 1 + PATCHES) if self.there[at]]

    def hidden(self) -> Tensor:
        """Normed hidden rows of every position; of pruned ones without meaning."""
        raters = self.raters()
        if isinstance(self.method, ToMe) and 0 in self.method.layers:
            self.tome(self.method)
        for index, layer in enumerate(decoder().model.layers):
            attention = self.attend(layer)
            self.rows = self.rows + layer.mlp(layer.post_attention_layernorm(self.rows))
            if isinstance(self.method, FastV) and index == self.method.layer - 1 < LAYERS - 1:
                self.fastv(attention[self.sayers()].mean(dim=0), self.method)
            if isinstance(self.method, SparseVLM) and index in self.method.layers and index < LAYERS - 1:
                self.sparsevlm(attention[raters], self.method)
            if isinstance(self.method, ToMe) and index + 1 in self.method.layers and index < LAYERS - 1:
                self.tome(self.method)
        return decoder().model.norm(self.rows)

    def attend(self, layer: DecoderLayer) -> Tensor:
        """Add a layer's attention; its weights [rows, rows], mean over heads."""
        entered, attention, count = layer.input_layernorm(self.rows), layer.self_attn, len(self.rows)
        queries, keys, values = (
            part(entered).view(count, -1, 8).transpose(0, 1)
            for part in (attention.q_proj, attention.k_proj, attention.v_proj)
        )
        keys, values = (part.repeat_interleave(2, dim=0) for part in (keys, values))
        scores = rotated(queries) @ rotated(keys).transpose(1, 2) / 8**0.5
        scores = scores + torch.tensor(self.sizes, dtype=DOUBLE).log()
        every = torch.ones(count, count, dtype=torch.bool)
        seen = (every.tril() if self.layout is LAYOUT else every) & torch.tensor(self.there)
        weights = scores.masked_fill(~seen, -torch.inf).softmax(dim=-1)
        self.rows = self.rows + attention.o_proj((weights @ values).transpose(0, 1).reshape(count, -1))
        return weights.mean(dim=0)

    def sayers(self) -> list[int]:
        """Positions of the rows that say a number: the last, or those before the seven places."""
        return [ROWS - 1] if self.layout is LAYOUT else [ROWS + at for at in range(7)]

    def raters(self) -> list[int]:
        """Positions of the text that SparseVLM asks, of the embedded prompt."""
        first = 1 + PATCHES if self.layout is LAYOUT else 2 + PATCHES
        text, patches = self.rows[first : first + TEXT], self.rows[1 : 1 + PATCHES]
        likeness = [torch.softmax(torch.stack([patch @ word for word in text]), dim=0) for patch in patches]
        means = torch.stack(likeness).mean(dim=0).tolist()
        return [first + at for at, share in enumerate(means) if share > sum(means) / TEXT]

    def fastv(self, looks: Tensor, method: FastV) -> None:
        """Drop what the rows that say a number look at least."""
        order = sorted(self.patches, key=lambda at: -float(looks[at]))
        for at in order[round(PATCHES * (1 - method.ratio)) :]:
            self.there[at] = False

    def tome(self, method: ToMe) -> None:
        """Merge the most similar pairs of a token and one of those between, weighted by what each stands for."""
        patches, pairs = self.patches, []
        for one in patches[0::2]:
            likeness = {other: self.cosine(one, other) for other in patches[1::2]}
            pairs += [max((likeness[other], one, other) for other in likeness)] if likeness else []
        count = min(round(method.ratio * len(patches)), len(patches) // 2)
        into: dict[int, list[int]] = {}
        for _, one, other in sorted(pairs, key=lambda pair: -pair[0])[:count]:
            into.setdefault(other, [other]).append(one)
        after = self.rows.clone()
        for other, members in into.items():
            total = sum(self.sizes[at] for at in members)
            after[other] = sum(self.sizes[at] * self.rows[at] for at in members) / total
        for other, members in into.items():
            self.sizes[other] = sum(self.sizes[at] for at in members)
            for gone in members[1:]:
                self.there[gone] = False
        self.rows = after

    def cosine(self, one: int, other: int) -> float:
        """Of two rows."""
        first, second = self.rows[one], self.rows[other]
        return float(first @ second / (first.norm() * second.norm()))

    def sparsevlm(self, looks: Tensor, method: SparseVLM) -> None:
        """Drop what the raters look at least, and merge some of it."""
        patches = self.patches
        rank = int(torch.linalg.matrix_rank(looks[:, patches].float()))
        count = max(0, min(int(rank * method.scale + method.bias), len(patches) - 1))
        order = sorted(patches, key=lambda at: -float(looks[:, at].mean()))
        dropped = order[count:]
        recycled = sorted(dropped[: int(method.recycle * len(dropped))])
        for at in dropped:
            self.there[at] = False
        merged = clusters(self.rows, recycled) if recycled else {}
        after = self.rows.clone()
        for centre, members in merged.items():
            after[centre] = self.rows[members].mean(dim=0)
            self.there[centre] = True
        self.rows = after


def clusters(rows: Tensor, places: list[int]) -> dict[int, list[int]]:
    """Density peaks: centre -> its members."""
    count, width = len(places) // 10 + 1, rows.shape[1]
    apart = {(one, other): float((rows[one] - rows[other]).norm()) / width**0.5 for one in places for other in places}
    density = {}
    for one in places:
        nearest = sorted(apart[one, other] for other in places)[:count]
        density[one] = float(np.exp(-np.mean(np.square(nearest))))
    furthest, score = max(apart.values()), {}
    for one in places:
        denser = [apart[one, other] for other in places if (-density[other], other) < (-density[one], one)]
        score[one] = min(denser, default=furthest) * density[one]
    centres = sorted(places, key=lambda at: -score[at])[:count]
    found: dict[int, list[int]] = {centre: [] for centre in sorted(centres)}
    for one in places:
        found[one if one in found else min(found, key=lambda centre: apart[one, centre])].append(one)
    return found


def rotated(heads: Tensor) -> Tensor:
    """Rotary position embedding, pair by pair, at positions 0, 1, 2 ..."""
    frequencies = 1.0 / CONFIG.rope_theta ** (torch.arange(0, 8, 2).float() / 8)
    angles = torch.arange(heads.shape[1])[:, None].float() * frequencies
    cos, sin = angles.cos().to(DOUBLE), angles.sin().to(DOUBLE)
    one, other = heads[..., :4], heads[..., 4:]
    return torch.cat((one * cos - other * sin, other * cos + one * sin), dim=-1)


def greedy(rows: Tensor, method: Method | None) -> list[int]:
    """The action's tokens, each by computing everything again."""
    ids: list[int] = []
    for _ in range(TOKENS):
        every = torch.cat((rows, decoder().embed(torch.tensor(ids, dtype=torch.long))))
        ids.append(int(decoder().logits(Plain(method, every).hidden()[-1]).argmax()))
    return ids


def sequence(
    rows: Tensor, method: Method | None, draft: Draft | None = None, layout: TokenLayout = LAYOUT
) -> SequenceSlice:
    """A prompt that is pruned, or not, over storage of its own."""
    whole = ReusePlan.whole(len(rows), LAYERS, PATCHES, CPU)
    pruning = None if method is None else PromptPruning(method, layout)
    ids, read = (None, None) if draft is None else (draft.input_ids, TOKENS)
    kv, mask = storage(layout), layout.mask
    return prompt_slice(decoder(), rows, whole, kv, draft_ids=ids, read=read, mask=mask, pruning=pruning)


def decoded(sequences: list[SequenceSlice], drafts: list[Draft]) -> list[DecodeResult]:
    """All of them in the same passes."""
    runner = DecoderRunner(decoder())
    frames = [
        Prefilled(Prepared({}, torch.empty(0), torch.empty(0), LAYOUT, "", draft.ids), hidden, own.kv, draft)
        for hidden, own, draft in zip(runner.forward(sequences), sequences, drafts, strict=True)
    ]
    return speculative_decode(runner, frames)


def guesses(right: list[int], wrong: int, mode: DraftMode) -> Draft:
    """The right tokens but for one, from the end on; none for 0."""
    ids = np.array(right)
    ids[TOKENS - wrong :] = (ids[TOKENS - wrong :] + 1) % CONFIG.vocab_size
    return Draft(ids, mode)


@torch.inference_mode()
@some
@given(seed=seeds, method=methods, block=st.sampled_from([3, 72]), layout=layouts)
@example(seed=1, method=SparseVLM((0, 1, 2), 6.0, 5.0, 0.2), block=3, layout=LAYOUT)  # rows move up more than once
@example(seed=1, method=SparseVLM((0, 1, 2), 6.0, 5.0, 0.2), block=3, layout=WHOLE)
@example(seed=2, method=FastV(2, 0.5), block=72, layout=WHOLE)
@example(seed=3, method=ToMe((0, 2), 0.3), block=72, layout=WHOLE)
def test_rows_are_those_of_a_loop_that_masks_what_is_pruned(
    seed: int, method: Method, block: int, layout: TokenLayout
) -> None:
    """All rows that are left, of any method and settings, over a cache of NaN: nothing else is ever read."""
    reference = Plain(method, prompt_rows(seed, layout), layout)
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(eager_attention, "BLOCK_ROWS", block)
        own = sequence(prompt_rows(seed, layout), method, layout=layout)
        hidden = DecoderRunner(decoder()).forward([own])[0]
    whole = reference.hidden()

    torch.testing.assert_close(hidden, whole[torch.tensor(reference.there)], rtol=0, atol=1e-8)


@torch.inference_mode()
@some
@given(seed=seeds, method=methods, wrong=st.integers(0, TOKENS), mode=st.sampled_from(["exact", "strict", "off"]))
def test_tokens_are_greedy_ones_whatever_is_guessed(seed: int, method: Method, wrong: int, mode: DraftMode) -> None:
    """A draft is verified under the pruned prompt; passes that follow see in each layer what is left there."""
    right = greedy(prompt_rows(seed), method)
    draft = guesses(right, wrong, mode)
    (result,) = decoded([sequence(prompt_rows(seed), method, draft)], [draft])

    assert result.ids.tolist() == right
    assert result.refusal is None
    if mode != "off":
        assert result.accepted == TOKENS - wrong
        assert (result.passes == 0) == (wrong <= 1)


@torch.inference_mode()
@some
@given(seed=seeds, chosen=st.lists(st.none() | methods, min_size=2, max_size=3))
def test_whole_prompts_side_by_side_are_what_each_is_alone(seed: int, chosen: list[Method | None]) -> None:
    """Likewise where every row sees every other: the rows out of which the action is said, which are never pruned."""

    def make() -> list[SequenceSlice]:
        owns = [sequence(prompt_rows(seed + at, WHOLE), method, layout=WHOLE) for at, method in enumerate(chosen)]
        return [replace(own, read=WHOLE.answer_rows) for own in owns]

    runner = DecoderRunner(decoder())
    for at, (hidden, alone) in enumerate(zip(runner.forward(make()), make(), strict=True)):
        torch.testing.assert_close(hidden, runner.forward([alone])[0], rtol=0, atol=1e-9)
        expected = Plain(chosen[at], prompt_rows(seed + at, WHOLE), WHOLE).hidden()[-WHOLE.answer_rows :]
        torch.testing.assert_close(hidden, expected, rtol=0, atol=1e-8)


@torch.inference_mode()
@some
@given(chosen=st.lists(st.tuples(seeds, st.none() | methods, st.integers(0, TOKENS)), min_size=2, max_size=4))
def test_prompts_side_by_side_are_what_each_is_alone(
    chosen: list[tuple[int, Method | None, int]],
) -> None:
    """Pruned by different methods, and whole: the same hidden rows, tokens and passes, and rows seen in each layer."""
    drafts = [guesses(greedy(prompt_rows(seed), method), wrong, "exact") for seed, method, wrong in chosen]

    def make() -> list[SequenceSlice]:
        pairs = zip(chosen, drafts, strict=True)
        return [sequence(prompt_rows(seed), method, draft) for (seed, method, _), draft in pairs]

    together, runner = make(), DecoderRunner(decoder())
    for own, alone, hidden in zip(together, make(), runner.forward(together), strict=True):
        torch.testing.assert_close(hidden, runner.forward([alone])[0], rtol=0, atol=1e-9)
        for layer in range(LAYERS):
            one, other = own.kv.visible(layer), alone.kv.visible(layer)
            assert (None if one is None else one.tolist()) == (None if other is None else other.tolist())
    results = decoded(make(), drafts)
    singles = [decoded([own], [draft])[0] for own, draft in zip(make(), drafts, strict=True)]
    assert [(own.ids.tolist(), own.passes) for own in results] == [(own.ids.tolist(), own.passes) for own in singles]


@torch.inference_mode()
@pytest.mark.parametrize("ratio", [0.25, 0.5, 1.0])
@pytest.mark.parametrize("layer", [1, 2, 3])
def test_what_is_pruned_is_written_nowhere_and_counted(layer: int, ratio: float) -> None:
    """From the layer on: no keys of these rows, no sight of them, and as many token-layers as the two make."""
    own = sequence(prompt_rows(0), FastV(layer, ratio))
    DecoderRunner(decoder()).forward([own])
    gone = PATCHES - round(PATCHES * (1 - ratio))

    for each in range(LAYERS):
        written = own.kv.keys(each, ROWS).isfinite().all(dim=-1).all(dim=0)
        seen = own.kv.visible(each)
        assert int((~written).sum()) == (gone if each >= layer else 0)
        assert (seen is None) == (each < layer)
        if seen is not None:
            assert seen.tolist() == written.nonzero()[:, 0].tolist()
    assert own.kv.pruned_rows(LAYERS) == (0,) * layer + (gone,) * (LAYERS - layer)
    own.kv.begin()
    assert (own.kv.is_pruned, own.kv.pruned_rows(LAYERS)) == (False, (0,) * LAYERS)


def test_pruning_beside_reuse_is_refused() -> None:
    """A delta frame's rows would be seen with keys that other rows were seen for."""
    order = torch.tensor([1, 2])
    none = torch.zeros(PATCHES, dtype=torch.bool)
    delta = ReusePlan(ROWS, order, (0, 1, 2, 2), order - 1, none, none)
    pruning = PromptPruning(FastV(1, 0.5), LAYOUT)

    with pytest.raises(ValueError, match="a prompt that is computed whole, without history"):
        prompt_slice(decoder(), prompt_rows(0), delta, storage(), pruning=pruning)
