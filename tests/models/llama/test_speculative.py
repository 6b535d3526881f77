from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, get_args
from zlib import crc32

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from stillframe.domain import DraftMode
from stillframe.errors import Flaw
from stillframe.models.base import Prefilled, Prepared
from stillframe.models.llama import speculative
from stillframe.models.llama.decoder import Decoder, DecoderConfig
from stillframe.models.llama.draft import Draft, Ids
from stillframe.models.llama.history_attention import HistoryKV
from stillframe.models.llama.layout import TokenLayout
from stillframe.models.llama.runner import DecoderRunner
from stillframe.models.llama.sequence import SequenceSlice
from stillframe.models.llama.speculative import ROUNDING_MARGIN, DecodeResult, speculative_decode
from stillframe.reuse.kv import FrameKV, KVShape
from stillframe.reuse.plan import ReusePlan

CPU = torch.device("cpu")
TOKENS = 7
DTYPES = [torch.float32, torch.bfloat16]
MODES: tuple[DraftMode, DraftMode] = ("strict", "exact")
# How much the head's rows differ: 0 two of each, then ever more; the first few are within rounding. None: at random.
SPREADS = [None, 0.0, 1e-7, 3e-7, 1e-6, 1e-5, 1e-3]
EXAMPLES = settings().max_examples
# Each makes a decoder of its own: every day a few, alike in every run.
many = settings(max_examples=3 * EXAMPLES // 2 if EXAMPLES >= 100 else EXAMPLES // 3, derandomize=True)
seeds = st.integers(0, 2**31)


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


def prefilled(hidden: Tensor, slots: range, kv: FrameKV, draft: Draft, history: HistoryKV | None = None) -> Prefilled:
    """As much of a frame as decoding asks for: `slots` are the positions of its action."""
    layout = TokenLayout({}, (0, 0), range(slots.start, slots.start), slots)
    prepared = Prepared({}, torch.empty(0), torch.empty(0), layout, "", no_motion_tokens=draft.ids)
    return Prefilled(prepared, hidden, kv, draft, history)


@dataclass(frozen=True)
class Running:
    """As much of a DecoderRunner as decoding asks for, with passes of its own."""

    decoder: Any
    forward: Callable[[Sequence[SequenceSlice]], list[Tensor]]


@dataclass
class Scene:
    """A random decoder, a prompt for it, and what an earlier prompt left in its storage."""

    decoder: Decoder
    rows: Tensor  # [prompt, width]
    plan: ReusePlan
    left: Tensor  # keys and values

    @property
    def slots(self) -> range:
        """Where the action's tokens go."""
        return range(len(self.rows), len(self.rows) + TOKENS)

    def storage(self) -> FrameKV:
        """As the earlier prompt left it."""
        return FrameKV(self.left.clone())

    def begin(self, draft: Draft) -> tuple[Tensor, FrameKV]:
        """The prefill over prompt and guesses."""
        kv = self.storage()
        return DecoderRunner(self.decoder).prefill(self.rows, self.plan, kv, None, draft.input_ids), kv

    def decode(self, draft: Draft) -> DecodeResult:
        """Prefill and decode."""
        hidden, kv = self.begin(draft)
        return speculative_decode(DecoderRunner(self.decoder), [prefilled(hidden, self.slots, kv, draft)])[0]

    def greedy(self) -> Ids:
        """What greedy decoding is: a token a pass, each pass over all slots, whose unknown ones hold anything."""
        ids = np.zeros(TOKENS, np.int64)
        hidden, kv = self.begin(Draft(ids))
        ids[0] = int(self.decoder.logits(hidden[-TOKENS:]).argmax(dim=-1)[0])
        for token in range(1, TOKENS):
            rows = self.decoder.embed(torch.from_numpy(ids[:-1]))
            hidden = run_rows(self.decoder, rows, self.slots.start, kv)
            ids[token] = int(self.decoder.logits(hidden).argmax(dim=-1)[token - 1])
        return ids

    def verified(self) -> Ids:
        """The draft that the prefill finds right: each token the likeliest in its row, those before it right."""
        ids = np.zeros(TOKENS, np.int64)
        for token in range(TOKENS):
            hidden, _ = self.begin(Draft(ids))
            ids[token] = int(self.decoder.logits(hidden[-TOKENS:]).argmax(dim=-1)[token])
        return ids

    def plain(self, ids: Ids) -> tuple[Tensor, Tensor]:
        """The logits for each of `ids` [TOKENS, vocabulary], one row a pass; units of the head's rounding [TOKENS]."""
        kv, logits, units = self.storage(), [], []
        last = DecoderRunner(self.decoder).prefill(self.rows, self.plan, kv)[-1]
        for token in range(TOKENS):
            logits.append(self.decoder.logits(last).float())
            units.append(torch.finfo(last.dtype).eps * self.decoder.max_head_norm * last.float().norm())
            at = self.slots[token]
            last = run_rows(self.decoder, self.decoder.embed(torch.from_numpy(ids[token : token + 1])), at, kv)[-1]
        return torch.stack(logits), torch.stack(units)

    def leads(self, ids: Ids) -> tuple[Ids, Tensor]:
        """The likeliest token after those of `ids` before it, one row a pass; by how much, in units of rounding."""
        logits, units = self.plain(ids)
        best = logits.topk(2).values
        return logits.argmax(dim=-1).numpy(), (best[:, 0] - best[:, 1]) / units

    def behind(self, ids: Ids) -> Tensor:
        """How far each of `ids` is behind the likeliest, one row a pass, in units of the head's rounding [TOKENS]."""
        logits, units = self.plain(ids)
        return (logits.amax(dim=-1) - logits[torch.arange(TOKENS), torch.from_numpy(ids)]) / units


def scene(seed: int, dtype: torch.dtype = torch.float32, spread: float | None = None, gains: float = 1.5) -> Scene:
    """Sizes, weights, prompt and plan by seed; `spread`: see SPREADS."""
    random, torch_random = np.random.default_rng(seed), torch.Generator().manual_seed(seed)
    heads, head_dim = random.choice([2, 4]), random.choice([4, 8, 16])
    config = DecoderConfig(
        vocab_size=int(random.choice([8, 40, 300])),
        hidden_size=int(heads * head_dim),
        intermediate_size=int(random.choice([24, 48])),
        num_hidden_layers=int(random.integers(1, 7)),
        num_attention_heads=int(heads),
        num_key_value_heads=int(random.choice([1, 2])),
    )
    decoder = Decoder(config).eval().requires_grad_(requires_grad=False)
    gain = random.uniform(0.5, gains)
    for weight in decoder.parameters():
        if weight.dim() == 2:
            weight.copy_(torch.randn(weight.shape, generator=torch_random) * gain / weight.shape[1] ** 0.5)
    decoder.model.embed_tokens.weight.mul_(config.hidden_size**0.5)
    if spread is not None:
        noise = torch.randn(decoder.lm_head.weight.shape, generator=torch_random)
        decoder.lm_head.weight.copy_(noise[:1] + spread * noise.roll(1, dims=0))
    decoder = decoder.to(dtype)
    prompt = int(random.integers(4, 40))
    shape = KVShape(config.num_hidden_layers, config.num_key_value_heads, config.head_dim, prompt + TOKENS, dtype, CPU)
    old, new = (torch.randn(prompt, config.hidden_size, generator=torch_random).to(dtype) for _ in range(2))
    storage = shape.allocate()
    DecoderRunner(decoder).prefill(old, ReusePlan.whole(prompt, shape.layers, 1, CPU), FrameKV(storage))
    decoder.measure_head()
    return Scene(decoder, new, plan_of(random, prompt, shape.layers), storage)


def plan_of(random: np.random.Generator, rows: int, layers: int) -> ReusePlan:
    """Some rows of the prompt dropped, more and more from layer to layer; of one frame in four, none."""
    order = torch.from_numpy(random.permutation(rows - 1))
    most = 0 if random.random() < 0.25 else rows - 1
    counts = tuple(int(count) for count in sorted(random.integers(0, most + 1, layers)))
    return ReusePlan(
        rows, order, counts, order, torch.zeros(rows, dtype=torch.bool), torch.zeros(rows, dtype=torch.bool)
    )


def drafts(random: np.random.Generator, right: Ids, vocabulary: int) -> list[Ids]:
    """The right tokens; with one wrong; with everything wrong from one on; anything."""
    other, tail = right.copy(), right.copy()
    token = random.integers(TOKENS)
    other[token] = random.integers(vocabulary)
    tail[token:] = random.integers(0, vocabulary, TOKENS - token)
    return [right, other, tail, random.integers(0, vocabulary, TOKENS)]


@many
@given(seed=seeds, dtype=st.sampled_from(DTYPES), spread=st.sampled_from(SPREADS))
@torch.inference_mode()
def test_no_draft_changes_a_token(seed: int, dtype: torch.dtype, spread: float | None) -> None:
    """Strict: greedy tokens whatever is guessed, over any plan, in either dtype, with ties and next to ties."""
    one = scene(seed, dtype, spread)
    greedy = one.greedy()
    for ids in drafts(np.random.default_rng(seed), greedy, one.decoder.config.vocab_size):
        spoken = one.decode(Draft(ids, "strict"))

        assert spoken.ids.tolist() == greedy.tolist()
        assert spoken.bit_equal
        assert spoken.passes < TOKENS
        assert spoken.accepted <= TOKENS - spoken.passes
        assert (spoken.ids == ids)[: spoken.accepted].all()


@many
@given(seed=seeds, dtype=st.sampled_from(DTYPES), spread=st.sampled_from(SPREADS))
@torch.inference_mode()
def test_without_drafts_a_token_takes_a_pass(seed: int, dtype: torch.dtype, spread: float | None) -> None:
    """Mode off gives greedy tokens, a pass each, and looks at no guess, not even at right ones."""
    one = scene(seed, dtype, spread)
    greedy = one.greedy()
    spoken = one.decode(Draft(greedy, "off"))

    assert spoken.ids.tolist() == greedy.tolist()
    assert spoken.passes == TOKENS - 1
    assert spoken.bit_equal


@many
@given(seed=seeds, dtype=st.sampled_from(DTYPES), spread=st.sampled_from(SPREADS))
@torch.inference_mode()
def test_exact_tokens_are_the_likeliest_in_a_pass_that_had_those_before_right(
    seed: int, dtype: torch.dtype, spread: float | None
) -> None:
    """Whatever is guessed. A plain decoder, a row a pass, finds none of them further behind than rounding reaches."""
    one = scene(seed, dtype, spread)
    for ids in drafts(np.random.default_rng(seed), one.verified(), one.decoder.config.vocab_size):
        spoken, passes = seen_decoding(one, Draft(ids, "exact"))

        assert all(
            any((fed[:token] == spoken.ids[:token]).all() and said[token] == spoken.ids[token] for fed, said in passes)
            for token in range(TOKENS)
        )
        assert one.behind(spoken.ids).max() <= ROUNDING_MARGIN[dtype]
        assert (spoken.ids == ids)[: spoken.accepted].all()
        assert spoken.accepted <= TOKENS - spoken.passes


def seen_decoding(one: Scene, draft: Draft) -> tuple[DecodeResult, list[tuple[Ids, Ids]]]:
    """An action decoded; of each pass the tokens it was fed [TOKENS - 1], and the likeliest in each row [TOKENS].

    A later pass says nothing of the first token: -1.
    """
    runner = DecoderRunner(one.decoder)
    hidden, kv = one.begin(draft)
    passes = [(draft.ids[:-1], one.decoder.logits(hidden[-TOKENS:]).argmax(dim=-1).numpy())]

    def watched(sequences: Sequence[SequenceSlice]) -> list[Tensor]:
        (sequence,) = sequences
        assert range(sequence.first, sequence.stop) == one.slots[:-1]
        fed = torch.cdist(sequence.rows.float(), one.decoder.model.embed_tokens.weight.float()).argmin(dim=-1)
        out = runner.forward(sequences)
        passes.append((fed.numpy(), np.array([-1, *one.decoder.logits(out[0]).argmax(dim=-1).tolist()])))
        return out

    (spoken,) = speculative_decode(Running(one.decoder, watched), [prefilled(hidden, one.slots, kv, draft)])
    return spoken, passes


@many
@given(seed=seeds, dtype=st.sampled_from(DTYPES), spread=st.sampled_from(SPREADS))
@torch.inference_mode()
def test_a_right_draft_takes_one_pass(seed: int, dtype: torch.dtype, spread: float | None) -> None:
    """Exact: what the prefill finds right stands, among ties as well, on any decoder; nothing is left to decode."""
    one = scene(seed, dtype, spread)
    right = one.verified()
    spoken = one.decode(Draft(right))

    assert spoken.ids.tolist() == right.tolist()
    assert (spoken.passes, spoken.accepted) == (0, TOKENS)


@many
@given(seed=seeds, dtype=st.sampled_from(DTYPES), spread=st.sampled_from(SPREADS), radius=st.integers(0, 2))
@torch.inference_mode()
def test_what_is_called_equal_to_the_bit_is(seed: int, dtype: torch.dtype, spread: float | None, radius: int) -> None:
    """Exact and relaxed answers that say so have the very tokens of passes without guesses."""
    one = scene(seed, dtype, spread)
    greedy, radii = one.greedy(), np.full(TOKENS, radius)
    for ids in drafts(np.random.default_rng(seed), greedy, one.decoder.config.vocab_size):
        for draft in (Draft(ids), Draft(ids, "relaxed", radii)):
            spoken = one.decode(draft)

            assert not spoken.bit_equal or spoken.ids.tolist() == greedy.tolist()


@many
@given(seed=seeds)
@torch.inference_mode()
def test_greedy_is_greedy_a_row_at_a_time(seed: int) -> None:
    """Each token is the likeliest after those before it, as a lone row says, wherever rounding does not decide."""
    one = scene(seed)
    ids = one.greedy()
    likeliest, leads = one.leads(ids)
    clear = leads > ROUNDING_MARGIN[torch.float32]

    assert clear.float().mean() > 0.5
    assert (torch.from_numpy(likeliest == ids) | ~clear).all()


@many
@given(seed=seeds, dtype=st.sampled_from(DTYPES), spread=st.sampled_from([None, 1e-3]))
@torch.inference_mode()
def test_rounding_does_not_reach_as_far_as_we_say(seed: int, dtype: torch.dtype, spread: float | None) -> None:
    """The prefill and a pass over the slots move no token's lead over another beyond REACH, in wild networks too."""
    one = scene(seed, dtype, spread, gains=2.5)
    draft = Draft(np.random.default_rng(seed).integers(0, one.decoder.config.vocab_size, TOKENS))
    hidden, kv = one.begin(draft)
    early = hidden[1 - TOKENS :]
    late = run_rows(one.decoder, one.decoder.embed(draft.input_ids), one.slots.start, kv)
    moved = one.decoder.logits(early).float() - one.decoder.logits(late).float()
    unit = torch.finfo(dtype).eps * one.decoder.max_head_norm * early.float().norm(dim=-1)
    reached = (moved.amax(dim=-1) - moved.amin(dim=-1)) / unit

    assert reached.max() < ROUNDING_MARGIN[dtype] / 2


@torch.inference_mode()
def test_where_no_lead_is_within_rounding_strict_takes_one_pass_too() -> None:
    """The prefill finds every guess right, and every lead decisive."""
    one = scene(3)
    strict, exact = (one.decode(Draft(one.greedy(), mode)) for mode in MODES)

    assert strict == replace(exact, ids=strict.ids)
    assert (strict.passes, strict.accepted, exact.bit_equal) == (0, TOKENS, True)


@torch.inference_mode()
def test_a_wrong_last_guess_costs_nothing() -> None:
    """The prefill says what the last token is: nothing follows on it."""
    one = scene(3)
    draft = one.greedy()
    draft[-1] += 1

    assert (one.decode(Draft(draft)).passes, one.decode(Draft(draft)).accepted) == (0, TOKENS - 1)


@pytest.mark.parametrize("dtype", DTYPES)
@torch.inference_mode()
def test_a_tie_is_left_to_the_pass_that_decides_it(dtype: torch.dtype) -> None:
    """Where all tokens are equally likely a right draft takes strict two passes: it does not take the prefill's word.

    Exact takes it, and says that rounding may have chosen.
    """
    one = scene(3, dtype, spread=0.0)
    strict, exact = one.decode(Draft(one.greedy(), "strict")), one.decode(Draft(one.verified()))

    assert (strict.passes, strict.accepted, strict.bit_equal) == (1, 1, True)
    assert (exact.passes, exact.accepted, exact.bit_equal) == (0, TOKENS, False)


@torch.inference_mode()
def test_one_token_is_the_prefills_in_every_mode() -> None:
    """No pass follows, so nothing rounds otherwise, be the tie as close as it may."""
    one = scene(3, spread=0.0)
    for mode in get_args(DraftMode):
        draft = Draft(one.greedy()[:1], mode)
        hidden, kv = one.begin(draft)
        (spoken,) = speculative_decode(DecoderRunner(one.decoder), [prefilled(hidden, one.slots[:1], kv, draft)])

        assert (spoken.passes, spoken.bit_equal) == (0, True)


@pytest.mark.parametrize("mode", MODES)
@torch.inference_mode()
def test_each_pass_makes_at_least_one_token_known(mode: DraftMode) -> None:
    """The next pass guesses what the last one chose, behind what is known; every pass is over all slots."""
    one = scene(5)
    greedy = one.greedy()
    spoken, (_, *later) = seen_decoding(one, Draft((greedy + 1) % one.decoder.config.vocab_size, mode))
    fed = [ids for ids, _ in later]
    right = [int(np.cumprod(ids == greedy[:-1]).sum()) for ids in fed]

    assert len(fed) == spoken.passes > 1
    assert spoken.accepted == 0
    assert right == sorted(right)
    assert all(known >= number + 1 for number, known in enumerate(right))


@many
@given(seed=seeds, radius=st.integers(0, 40))
@torch.inference_mode()
def test_relaxed_takes_a_guess_that_is_near(seed: int, radius: int) -> None:
    """No token is further from the likeliest after those before it than its radius."""
    one = scene(seed)
    random = np.random.default_rng(seed)
    guess = np.clip(one.greedy() + random.integers(-20, 21, TOKENS), 0, one.decoder.config.vocab_size - 1)
    radii = np.array([radius] * (TOKENS - 1) + [0])
    spoken = one.decode(Draft(guess, "relaxed", radii))
    likeliest, leads = one.leads(spoken.ids)
    clear = (leads > ROUNDING_MARGIN[torch.float32]).numpy()

    assert ((np.abs(spoken.ids - likeliest) <= radii) | ~clear).all()
    assert (spoken.ids == guess)[: spoken.accepted].all()


@torch.inference_mode()
def test_relaxed_takes_fewer_passes() -> None:
    """A draft beside the greedy tokens stands in one pass, not where it has to be right; the last is the likeliest."""
    one = scene(9)
    greedy = one.greedy()
    guess = greedy + np.where(greedy > 0, -1, 1)
    radii = np.array([1] * (TOKENS - 1) + [0])
    relaxed, strict = one.decode(Draft(guess, "relaxed", radii)), one.decode(Draft(guess, "strict"))

    assert relaxed.ids[0] == guess[0] != strict.ids[0]
    assert relaxed.accepted > strict.accepted
    assert (relaxed.bit_equal, strict.bit_equal) == (False, True)
    assert strict.ids.tolist() == greedy.tolist()


@many
@given(seed=seeds, dtype=st.sampled_from(DTYPES))
@torch.inference_mode()
def test_the_prompt_knows_nothing_of_the_guesses(seed: int, dtype: torch.dtype) -> None:
    """Its hidden rows, its keys and values and what a hook sees are the same to the bit whatever is guessed."""
    one = scene(seed, dtype)
    random, seen = np.random.default_rng(seed), []
    for _ in range(2):
        heard: list[Tensor] = []
        kv, fed = one.storage(), Draft(random.integers(0, one.decoder.config.vocab_size, TOKENS)).input_ids
        hidden = DecoderRunner(one.decoder).prefill(
            one.rows, one.plan, kv, Listener(lambda _, rows, to=heard: to.append(rows.clone())), fed
        )
        keys = [kv.keys(layer, len(one.rows)) for layer in range(one.decoder.config.num_hidden_layers)]
        seen.append([hidden[: 1 - TOKENS], *keys, *heard])
    entering = [len(one.rows) - count for count in (0, *one.plan.counts)]

    assert [len(rows) for rows in heard] == entering
    assert all(torch.equal(*pair) for pair in zip(*seen, strict=True))


def siblings(one: Scene, seed: int, count: int) -> list[Scene]:
    """Other prompts and plans of the same decoder, each over what an earlier prompt left in a storage of its own."""
    made = []
    for number in range(count):
        random = np.random.default_rng([seed, number])
        torch_random = torch.Generator().manual_seed(seed + number)
        prompt, config, dtype = int(random.integers(4, 40)), one.decoder.config, one.rows.dtype
        sizes = (config.num_hidden_layers, config.num_key_value_heads, config.head_dim, prompt + TOKENS)
        storage = KVShape(*sizes, dtype, CPU).allocate()
        old, new = (torch.randn(prompt, config.hidden_size, generator=torch_random).to(dtype) for _ in range(2))
        DecoderRunner(one.decoder).prefill(old, ReusePlan.whole(prompt, sizes[0], 1, CPU), FrameKV(storage))
        made.append(Scene(one.decoder, new, plan_of(random, prompt, sizes[0]), storage))
    return made


@settings(many, max_examples=EXAMPLES // 2 if EXAMPLES >= 100 else EXAMPLES // 6)
@given(seed=seeds, count=st.integers(2, 5))
@torch.inference_mode()
def test_batched_frames_are_what_each_is_alone(seed: int, count: int) -> None:
    """Tokens, passes, accepted guesses: in every mode of drafts, mixed, however long each of the others takes."""
    one = scene(seed)
    random, vocabulary = np.random.default_rng(seed), one.decoder.config.vocab_size
    frames, alone = [], []
    for number, own in enumerate(siblings(one, seed, count)):
        ids = drafts(random, own.greedy(), vocabulary)[number % 4]
        mode = random.choice(get_args(DraftMode))
        draft = Draft(ids, str(mode), np.array([vocabulary // 8] * (TOKENS - 1) + [0]))  # type: ignore[arg-type]
        alone.append(own.decode(draft))
        hidden, kv = own.begin(draft)
        frames.append(prefilled(hidden, own.slots, kv, draft))
    together = speculative_decode(DecoderRunner(one.decoder), frames)

    assert [(said.ids.tolist(), said.passes, said.accepted) for said in together] == [
        (said.ids.tolist(), said.passes, said.accepted) for said in alone
    ]


@torch.inference_mode()
def test_frames_share_their_passes() -> None:
    """As many passes as the longest takes; who is complete takes no part in the next."""
    one = scene(5)
    ran, runner = [], DecoderRunner(one.decoder)

    def watched(sequences: Sequence[SequenceSlice]) -> list[Tensor]:
        ran.append(len(sequences))
        return runner.forward(sequences)

    frames = []
    for own in siblings(one, 5, 3):
        draft = Draft(own.greedy(), "off" if len(frames) == 1 else "exact")
        hidden, kv = own.begin(draft)
        frames.append(prefilled(hidden, own.slots, kv, draft))
    spoken = speculative_decode(Running(one.decoder, watched), frames)

    assert [said.passes for said in spoken] == [0, TOKENS - 1, 0]
    assert ran == [1] * (TOKENS - 1)


@torch.inference_mode()
def test_actions_of_different_lengths_share_a_pass() -> None:
    """Each has as many tokens as it has slots."""
    one = scene(3)
    frames, expected = [], []
    for own, tokens in zip(siblings(one, 3, 3), (TOKENS, 1, 4), strict=True):
        draft = Draft(np.zeros(tokens, np.int64))
        for made in (frames, expected):
            hidden, kv = own.begin(draft)
            made.append(prefilled(hidden, range(own.slots.start, own.slots.start + tokens), kv, draft))
    spoken = speculative_decode(DecoderRunner(one.decoder), frames)

    assert [len(said.ids) for said in spoken] == [TOKENS, 1, 4]
    assert [said.ids.tolist() for said in spoken] == [
        speculative_decode(DecoderRunner(one.decoder), [own])[0].ids.tolist() for own in expected
    ]


WORDS = 9
LONGEST = 6


@dataclass(frozen=True)
class Tale:
    """What a scripted decoder says: what a seed decides; the prefill perhaps something else where it is not clear."""

    seed: int
    ids: Ids  # guessed
    clear: tuple[bool, ...]  # of each token, whether the prefill's lead is out of rounding's reach
    mode: DraftMode
    radius: Ids

    def after(self, tokens: Sequence[int]) -> int:
        """The likeliest token there."""
        return random_word(self.seed, tokens)

    def early(self, tokens: Sequence[int]) -> int:
        """The prefill's word for it."""
        return self.after(tokens) if self.clear[len(tokens)] else random_word(self.seed + 1, tokens)

    def expected(self) -> tuple[list[int], int, int, bool]:
        """Tokens, passes, accepted guesses, whether equal to the bit, written down token by token."""
        guess, known, passes, accepted, equal = [*self.ids.tolist()], 0, -1, 0, True
        while known < len(guess):
            says = self.early if passes < 0 else self.after
            said, passes, told = [says(guess[:token]) for token in range(len(guess))], passes + 1, [*guess[:known]]
            while len(told) < len(guess):
                best, guessed = said[len(told)], guess[len(told)]
                near = self.mode == "relaxed" and abs(best - guessed) <= self.radius[len(told)]
                told.append(guessed if near else best)
                equal = equal and told[-1] == best
                if told[-1] != guessed or self.mode == "off":
                    break
                if passes == 0 and len(told) < len(guess) and not self.clear[len(told)]:
                    if self.mode == "strict":
                        break
                    equal = False
            known = len(told)
            if passes == 0:
                accepted = next((at for at in range(known) if told[at] != self.ids[at]), known)
            guess = told + said[known:]
        return guess, passes, accepted, equal


def random_word(seed: int, tokens: Sequence[int]) -> int:
    """One of three, so that guesses are often right."""
    return crc32(bytes([*seed.to_bytes(4), *tokens])) // 7 % 3


class Scripted:
    """A decoder whose hidden rows say a word, how far it leads and one, [rows, 3]; embedded rows are token ids."""

    batch_invariant = False
    max_head_norm = 1.0

    def logits(self, hidden: Tensor) -> Tensor:
        """The word's lead over all others."""
        logits = torch.zeros(len(hidden), WORDS)
        logits[torch.arange(len(hidden)), hidden[:, 0].long()] = hidden[:, 1]
        return logits

    def embed(self, ids: Tensor) -> Tensor:
        """As they are."""
        return ids[:, None].float()


@st.composite
def tales(draw: st.DrawFn) -> Tale:
    """Guesses that are mostly right."""
    tokens, seed = draw(st.integers(1, LONGEST)), draw(st.integers(0, 2**20))
    clear = tuple(draw(st.lists(st.sampled_from([True, True, True, False]), min_size=tokens, max_size=tokens)))
    radius = draw(st.lists(st.integers(0, 2), min_size=tokens, max_size=tokens))
    mode: DraftMode = draw(st.sampled_from(get_args(DraftMode)))
    bare = Tale(seed, np.zeros(tokens, np.int64), clear, mode, np.array(radius))
    ids: list[int] = []
    for off in draw(st.lists(st.sampled_from([0, 0, 0, 0, 1, 2, -1]), min_size=tokens, max_size=tokens)):
        ids.append(max(0, bare.after(ids) + off))
    return replace(bare, ids=np.array(ids))


@many
@given(told=st.lists(tales(), min_size=1, max_size=4))
@torch.inference_mode()
def test_each_action_is_decoded_by_the_rules_of_its_draft(told: list[Tale]) -> None:
    """By an unreliable prefill and passes that share everything: tokens, passes and accepted as written down by hand.

    Every pass runs over all slots of those that are not complete, in their own caches, with their own older frames.
    """
    kvs = [FrameKV(KVShape(1, 1, 2, 1, torch.float32, CPU).allocate()) for _ in told]
    histories = [HistoryKV(torch.empty(0), torch.empty(0), torch.empty(0), at) for at in range(len(told))]
    starts = [10 + 3 * at for at in range(len(told))]

    def played(sequences: Sequence[SequenceSlice]) -> list[Tensor]:
        found = []
        for sequence in sequences:
            at = next(at for at, kv in enumerate(kvs) if kv is sequence.kv)
            assert sequence.history is histories[at]
            assert range(sequence.first, sequence.stop) == range(starts[at], starts[at] + len(told[at].ids) - 1)
            fed = sequence.rows[:, 0].int().tolist()
            found.append(torch.tensor([[told[at].after(fed[: row + 1]), 1.0, 1.0] for row in range(len(fed))]))
        return found

    frames = []
    for tale, start, kv, history in zip(told, starts, kvs, histories, strict=True):
        draft = Draft(tale.ids, tale.mode, tale.radius)
        fed = draft.input_ids.tolist()
        rows = [[tale.early(fed[:at]), 1.0 if tale.clear[at] else 1e-6, 1.0] for at in range(len(tale.ids))]
        hidden = torch.tensor([[0.0, 9.0, 1.0], *rows])
        frames.append(prefilled(hidden, range(start, start + len(tale.ids)), kv, draft, history))
    spoken = speculative_decode(Running(Scripted(), played), frames)  # type: ignore[arg-type]  # as much of a decoder as is asked

    for said, tale in zip(spoken, told, strict=True):
        assert (said.ids.tolist(), said.passes, said.accepted, said.bit_equal) == tale.expected()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_lead_beyond_the_rounding_margin_is_decisive(dtype: torch.dtype) -> None:
    """ROUNDING_MARGIN units of eps times the row's norm times the head's largest: by hand, on either side of it."""
    decoder = Scripted()
    decoder.max_head_norm = 2.0
    rows = torch.tensor([[3.0, 4.0], [0.3, 0.4]], dtype=dtype)
    reach = ROUNDING_MARGIN[dtype] * torch.finfo(dtype).eps * 2 * rows.float().norm(dim=-1)
    logits = torch.zeros(2, 5)
    for factor in (0.0, 0.9, 1.1):
        logits[:, 3] = reach * factor
        clear = speculative._decisive(decoder, rows, logits)  # type: ignore[arg-type]  # likewise

        assert clear.tolist() == [factor > 1] * 2


def test_on_a_batch_invariant_decoder_everything_is_decisive() -> None:
    """A tie, too: another pass would round the same. With one word only there is no lead to speak of."""
    decoder, rows, logits = Scripted(), torch.ones(3, 2), torch.zeros(3, 5)
    decoder.batch_invariant = True

    assert speculative._decisive(decoder, rows, logits).tolist() == [True] * 3  # type: ignore[arg-type]  # likewise
    decoder.batch_invariant = False
    assert speculative._decisive(decoder, rows, logits[:, :1]).tolist() == [False] * 3  # type: ignore[arg-type]  # likewise


def test_nothing_follows_on_the_last_guess() -> None:
    """It gets no row in a pass."""
    assert Draft(np.array([4, 5, 6])).input_ids.tolist() == [4, 5]


@pytest.mark.parametrize(
    ("best", "guess", "chosen"),
    [(100, 101, 101), (109, 110, 109), (100, 99, 100), (99, 100, 99), (110, 109, 110), (104, 109, 104)],
)
def test_in_relaxed_drafts_only_an_action_stands_for_an_action(best: int, guess: int, chosen: int) -> None:
    """A guess beside the ids of actions is none, and a text token that was likeliest stays what it is."""
    draft = Draft(np.array([guess]), "relaxed", np.array([2]), actions=range(100, 110))
    said = speculative._Verification(np.array([best]), np.array([True]), np.array([1.0]))

    assert speculative._chosen(0, said, draft.ids, draft) == chosen


def test_guesses_are_taken_to_the_nearest_action() -> None:
    """What goes on changing may be no token at all."""
    draft = Draft(np.array([3, 104, 205])).among(range(100, 110))

    assert draft.ids.tolist() == [100, 104, 109]
    assert draft.actions == range(100, 110)


@pytest.mark.parametrize(("rows", "found"), [([0.0, 0.0, 0.0], Flaw.FLAT), ([1.0, math.nan, 2.0], Flaw.NON_FINITE)])
def test_only_the_action_whose_pass_means_nothing_is_none(rows: list[float], found: Flaw) -> None:
    """Of two that share a prefill; the draft's maker is told."""
    drafts = [Draft(np.array([2, 2]), "off"), Draft(np.array([2, 2]), "off")]
    said = [
        speculative._Verification(
            np.array([2, 2]), np.ones(2, np.bool_), speculative._spread(torch.tensor(logits)).numpy()
        )
        for logits in ([[0.0, 1.0, 3.0], rows], [[0.0, 1.0, 3.0], [5.0, 1.0, 3.0]])
    ]
    kv = FrameKV(KVShape(1, 1, 2, 1, torch.float32, CPU).allocate())
    for draft, own in zip(drafts, said, strict=True):
        speculative._DecodeState(prefilled(torch.empty(0), range(2), kv, draft), own)

    assert [[fault.flaw for fault in draft.faults] for draft in drafts] == [[found], []]
