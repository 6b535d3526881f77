from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from transformers import LlamaConfig, LlamaForCausalLM

from stillframe.models.llama.attention_backend import MaskedAttention
from stillframe.models.llama.decoder import Decoder, DecoderConfig
from stillframe.models.llama.rotary import Rotary
from stillframe.models.llama.runner import DecoderRunner
from stillframe.models.llama.sequence import SequenceSlice
from stillframe.reuse.kv import FrameKV, KVShape

ROWS = 24
CAUSAL = torch.ones(ROWS, ROWS, dtype=torch.bool).tril()  # True where a row may look
FP32 = {"rtol": 0, "atol": 1e-5}  # measured: whole 0.0, in parts at most 4.4e-6
SIZES = {
    "all-heads": DecoderConfig(97, 48, 80, 3, 4, 4),
    "grouped": DecoderConfig(97, 48, 80, 3, 4, 2, rms_norm_eps=1e-5),
    "one-kv-head": DecoderConfig(97, 48, 80, 3, 4, 1, rope_theta=500.0),
}


def run_rows(decoder: Decoder, rows: Tensor, first: int, kv: FrameKV) -> Tensor:
    """One pass over embedded rows [rows, width] from position `first` on -> hidden rows, normed."""
    return DecoderRunner(decoder).forward([SequenceSlice(rows, first, kv)])[0]


class Pair:
    """The oracle on random weights, and ours with the same tensors."""

    def __init__(self, config: DecoderConfig):
        torch.manual_seed(5)
        sizes = {name: getattr(config, name) for name in config.__dataclass_fields__ if name != "rope_theta"}
        rope = {"rope_type": "default", "rope_theta": config.rope_theta}
        self.oracle = LlamaForCausalLM(LlamaConfig(**sizes, rope_parameters=rope, initializer_range=0.2)).eval()
        for weight in self.oracle.parameters():
            if weight.dim() == 1:  # norms, which are all alike before training
                weight.copy_(1 + 0.3 * torch.randn(weight.shape))
        self.config = config
        self.ours = Decoder(config).eval()
        self.ours.load_state_dict(self.oracle.state_dict(), strict=True)
        self.rows = torch.randn(ROWS, config.hidden_size)

    def kv(self) -> FrameKV:
        """Storage for all rows."""
        shape = KVShape(
            layers=self.config.num_hidden_layers,
            kv_heads=self.config.num_key_value_heads,
            head_dim=self.config.head_dim,
            capacity=ROWS,
            dtype=torch.float32,
            device=torch.device("cpu"),
        )
        return FrameKV(shape.allocate())

    def expected(self) -> Tensor:
        """The oracle's normed hidden rows, causal."""
        hidden: Tensor = self.oracle.model(inputs_embeds=self.rows[None], use_cache=False).last_hidden_state[0]
        return hidden

    def run(self, positions: list[int], kv: FrameKV) -> Tensor:
        """Our hidden rows at `positions`, which adjoin."""
        return run_rows(self.ours, self.rows[positions], positions[0], kv)


@pytest.fixture(params=SIZES)
def pair(request: pytest.FixtureRequest) -> Pair:
    """One of the sizes, without gradients."""
    with torch.inference_mode():
        return Pair(SIZES[request.param])


@torch.inference_mode()
def test_prefill_equals_the_oracle(pair: Pair) -> None:
    """One pass over all rows gives LlamaModel's hidden rows and logits."""
    hidden = pair.run(list(range(ROWS)), pair.kv())
    logits = pair.oracle(inputs_embeds=pair.rows[None], use_cache=False).logits[0]

    torch.testing.assert_close(hidden, pair.expected(), **FP32)
    torch.testing.assert_close(pair.ours.logits(hidden), logits, rtol=0, atol=2e-5)


@torch.inference_mode()
def test_decoding_row_by_row_equals_the_oracle(pair: Pair) -> None:
    """Each row alone, on the keys and values of those before it, gives the whole pass's row."""
    kv = pair.kv()
    hidden = torch.cat([pair.run([position], kv) for position in range(ROWS)])

    torch.testing.assert_close(hidden, pair.expected(), **FP32)


@torch.inference_mode()
@pytest.mark.parametrize("cut", [1, 11, ROWS - 1])
def test_prefill_in_two_parts_equals_the_whole(pair: Pair, cut: int) -> None:
    """Where the prompt is cut does not matter."""
    kv = pair.kv()
    parts = [pair.run(list(range(cut)), kv), pair.run(list(range(cut, ROWS)), kv)]

    torch.testing.assert_close(torch.cat(parts), pair.expected(), **FP32)


@torch.inference_mode()
@pytest.mark.parametrize("again", [[0], [7], [3, 4, 5], [ROWS - 1]])
def test_rows_computed_again_come_out_the_same(pair: Pair, again: list[int]) -> None:
    """Recomputing some rows over a full cache sees what came before each of them, and nothing later."""
    kv = pair.kv()
    pair.run(list(range(ROWS)), kv)

    torch.testing.assert_close(pair.run(again, kv), pair.expected()[again], **FP32)


@torch.inference_mode()
def test_a_whole_pass_equals_a_cache(pair: Pair) -> None:
    """A pass that keeps nothing, batched as training runs it, gives the same rows."""
    batch = torch.stack((pair.rows, pair.rows.flip(0)))
    hidden = pair.ours.model(batch, MaskedAttention(torch.arange(ROWS), CAUSAL))

    torch.testing.assert_close(hidden[0], pair.expected(), **FP32)


@torch.inference_mode()
def test_the_hook_sees_every_layer_once(pair: Pair) -> None:
    """Taps are called in order, first with the rows that enter the first layer; the last lacks only the final norm."""
    seen: dict[int, Tensor] = {}
    hidden = pair.ours.model(pair.rows, MaskedAttention(torch.arange(ROWS), CAUSAL, seen.__setitem__))
    oracle = pair.oracle.model(inputs_embeds=pair.rows[None], use_cache=False, output_hidden_states=True).hidden_states

    assert list(seen) == [0, 1, 2, 3]
    assert torch.equal(seen[0], pair.rows)
    torch.testing.assert_close(seen[1], oracle[1][0], rtol=0, atol=2e-5)
    torch.testing.assert_close(pair.ours.model.norm(seen[3]), hidden, rtol=0, atol=0)


def test_defaults_are_the_oracles() -> None:
    """What a checkpoint's text_config leaves out is what LlamaConfig would say."""
    ours, theirs = DecoderConfig(), LlamaConfig()
    differing = {
        name: (getattr(ours, name), getattr(theirs, name))
        for name in DecoderConfig.__dataclass_fields__
        if name != "rope_theta" and getattr(ours, name) != getattr(theirs, name)
    }

    assert differing == {}
    assert ours.rope_theta == theirs.rope_parameters["rope_theta"]
    assert ours.head_dim == 128


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_angles_that_are_looked_up_are_those_that_are_computed(pair: Pair, dtype: torch.dtype) -> None:
    """To the bit, at the first and the last position; made under inference, they serve training too."""
    positions = torch.tensor([0, 1, 23, 700, pair.config.max_position_embeddings - 1])
    with torch.inference_mode():
        pair.ours.model.rotary(positions, dtype)
    looked_up, computed = (
        pair.ours.model.rotary(positions, dtype),
        Rotary.at(positions, pair.config.head_dim, pair.config.rope_theta, dtype),
    )

    assert torch.equal(looked_up.cos, computed.cos)
    assert torch.equal(looked_up.sin, computed.sin)
    assert not looked_up.cos.is_inference()


@torch.inference_mode()
def test_tables_grow_with_what_is_asked_of_them() -> None:
    """Positions and causal masks of any length, one longer than what is there included, for each dtype its own."""
    model = Decoder(DecoderConfig(7, 8, 8, 1, 2, 2)).model
    for length in (1, 255, 256, 257, 511, 512, 513, 100):
        for dtype in (torch.float32, torch.bfloat16):
            looks = model.causal(length - 1, length, length, torch.empty(0, dtype=dtype))

            assert looks.dtype == dtype
            assert looks.shape == (1, length)
            assert looks.eq(0).all()
        assert model.positions(length - 1, length, torch.device("cpu")).tolist() == [length - 1]
        assert model.positions(0, length, torch.device("cpu")).tolist() == [*range(length)]
    expected = torch.where(torch.arange(9) <= torch.arange(3, 7)[:, None], 0.0, -torch.inf)
    assert torch.equal(model.causal(3, 7, 9, torch.empty(0)), expected)


def test_the_heads_largest_norm_is_measured() -> None:
    """In fp32 whatever the weights are in: rounding margins are multiples of it. Until then no lead is decisive."""
    decoder = Decoder(DecoderConfig(3, 4, 8, 1, 2, 2)).requires_grad_(requires_grad=False)
    decoder.lm_head.weight.copy_(torch.tensor([[1.0, 0, 0, 0], [3, 0, -4, 0], [0, 2, 0, 0]]))

    assert decoder.max_head_norm == torch.inf
    decoder.bfloat16().measure_head()
    assert decoder.max_head_norm == 5


def test_a_decoder_is_not_taken_for_batch_invariant() -> None:
    """Until it was tested: which tokens come out depends on it."""
    assert not Decoder(DecoderConfig(3, 4, 8, 1, 2, 2)).batch_invariant


@pytest.mark.parametrize("kv_heads", [1, 2, 4])
@torch.inference_mode()
def test_fused_products_give_their_parts(kv_heads: int) -> None:
    """Keys, then values; gate, then up: the same numbers as apart."""
    torch.manual_seed(2)
    decoder = Decoder(DecoderConfig(7, 16, 24, 1, 4, kv_heads))
    layer, rows = decoder.model.layers[0], torch.randn(5, 16)
    attention, mlp = layer.self_attn, layer.mlp
    keys, values, fed = *attention.keys_values(rows), mlp(rows)
    attention.kv_proj = nn.Linear(16, 2 * kv_heads * 4, bias=False)
    attention.kv_proj.weight = nn.Parameter(torch.cat((attention.k_proj.weight, attention.v_proj.weight)))
    mlp.gate_up_proj = nn.Linear(16, 48, bias=False)
    mlp.gate_up_proj.weight = nn.Parameter(torch.cat((mlp.gate_proj.weight, mlp.up_proj.weight)))

    for joined, apart in zip((*attention.keys_values(rows), mlp(rows)), (keys, values, fed), strict=True):
        torch.testing.assert_close(joined, apart, rtol=0, atol=1e-5)


def test_angles_are_each_dtypes_own() -> None:
    """Asked for in one dtype first, they are still rounded from fp32 in the other."""
    model, positions = Decoder(DecoderConfig(7, 16, 24, 1, 4, 2)).model, torch.tensor([5, 1003])
    rounded, exact = (model.rotary(positions, dtype) for dtype in (torch.bfloat16, torch.float32))

    assert exact.cos.dtype == torch.float32
    assert rounded.cos.dtype == torch.bfloat16
    assert torch.equal(exact.cos.bfloat16(), rounded.cos)
