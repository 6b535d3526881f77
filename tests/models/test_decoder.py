from __future__ import annotations

import pytest
import torch
from torch import Tensor
from transformers import LlamaConfig, LlamaForCausalLM

from stillframe.models.decoder import Decoder, DecoderConfig, Rotary, Whole
from stillframe.models.passes import run_rows
from stillframe.reuse.kv import FrameKV, KVShape

ROWS = 24
CAUSAL = torch.ones(ROWS, ROWS, dtype=torch.bool).tril()  # True where a row may look
FP32 = {"rtol": 0, "atol": 1e-5}  # measured: whole 0.0, in parts at most 4.4e-6
SIZES = {
    "all-heads": DecoderConfig(97, 48, 80, 3, 4, 4),
    "grouped": DecoderConfig(97, 48, 80, 3, 4, 2, rms_norm_eps=1e-5),
    "one-kv-head": DecoderConfig(97, 48, 80, 3, 4, 1, rope_theta=500.0),
}


class Pair:
    """The oracle on random weights, and ours with the same tensors."""

    def __init__(self, config: DecoderConfig):
        torch.manual_seed(5)
        sizes = {name: getattr(config, name) for name in config.__dataclass_fields__ if name != "rope_theta"}
        rope = {"rope_type": "default", "rope_theta": config.rope_theta}
        self.oracle = LlamaForCausalLM(LlamaConfig(**sizes, rope_parameters=rope, initializer_range=0.2)).eval()
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
    hidden = pair.ours.model(batch, Whole(torch.arange(ROWS), CAUSAL))

    torch.testing.assert_close(hidden[0], pair.expected(), **FP32)


@torch.inference_mode()
def test_the_tap_sees_every_layer_once(pair: Pair) -> None:
    """Taps are called in order, first with the rows that enter the first layer; the last lacks only the final norm."""
    seen: dict[int, Tensor] = {}
    hidden = pair.ours.model(pair.rows, Whole(torch.arange(ROWS), CAUSAL, seen.__setitem__))
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
    looked_up, computed = pair.ours.model.rotary(positions, dtype), Rotary.at(positions, pair.config, dtype)

    assert torch.equal(looked_up.cos, computed.cos)
    assert torch.equal(looked_up.sin, computed.sin)
    assert not looked_up.cos.is_inference()
