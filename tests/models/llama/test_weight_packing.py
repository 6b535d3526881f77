from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from stillframe.models.checkpoint import CheckpointFolder
from stillframe.models.llama import weight_packing
from stillframe.models.llama.decoder import Decoder, DecoderConfig
from stillframe.models.llama.runner import DecoderRunner
from stillframe.models.llama.sequence import SequenceSlice
from stillframe.models.llama.weight_packing import LEAST_PACKED, PackedLinear, pack_for_inference, worth_packing
from stillframe.models.prismatic.config import PrismaticConfig
from stillframe.models.prismatic.network import PrismaticNetwork
from stillframe.reuse.kv import FrameKV, KVShape

CPU = torch.device("cpu")
packs = pytest.mark.skipif(
    not weight_packing._can_pack(torch.bfloat16), reason="this torch, or this CPU, packs no weights"
)


@pytest.fixture(autouse=True)
def repeatable() -> Iterator[None]:
    """The same random weights each time, and no gradients."""
    torch.manual_seed(3)
    with torch.inference_mode():
        yield


def linear(inputs: int, outputs: int, dtype: torch.dtype, *, bias: bool) -> nn.Linear:
    """A layer with random weights."""
    return nn.Linear(inputs, outputs, bias=bias).to(dtype).requires_grad_(requires_grad=False)


def exactly(layer: nn.Linear, rows: Tensor) -> Tensor:
    """What the layer's numbers come to, in float64."""
    bias = None if layer.bias is None else layer.bias.double()
    return functional.linear(rows.double(), layer.weight.double(), bias)


@packs
@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize(("inputs", "outputs"), [(512, 512), (704, 131), (33, 700)])
def test_packed_float32_is_the_same_product(inputs: int, outputs: int, *, bias: bool) -> None:
    """As near to the exact result as float32 gets, whatever number of rows there is."""
    layer = linear(inputs, outputs, torch.float32, bias=bias)
    packed = PackedLinear(layer)

    for count in (1, 2, 3, 5, 8, 17, 64, 150, 300):
        rows = torch.randn(count, inputs)
        torch.testing.assert_close(packed(rows).double(), exactly(layer, rows), rtol=1e-5, atol=1e-5)


@packs
@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize(("inputs", "outputs"), [(512, 512), (704, 131), (33, 700)])
def test_packed_bfloat16_is_rounded_once(inputs: int, outputs: int, *, bias: bool) -> None:
    """Summed up in more than bfloat16 and then rounded: at most one step from the exact result rounded."""
    layer = linear(inputs, outputs, torch.bfloat16, bias=bias)
    packed = PackedLinear(layer)
    step = torch.finfo(torch.bfloat16).eps

    for count in (1, 2, 3, 5, 8, 17, 64, 150, 300):
        rows = torch.randn(count, inputs).bfloat16()
        torch.testing.assert_close(packed(rows).double(), exactly(layer, rows), rtol=step, atol=1e-5)


@packs
@pytest.mark.parametrize("leading", [(), (0,), (2, 3), (2, 0), (1, 1, 4)])
def test_packed_takes_rows_in_any_shape(leading: tuple[int, ...]) -> None:
    """Leading dimensions stay, none, empty or several; rows may be a part of something wider."""
    layer = linear(64, 40, torch.float32, bias=True)
    rows = torch.randn(*leading, 96)[..., :64]

    torch.testing.assert_close(PackedLinear(layer)(rows), layer(rows))


@packs
def test_only_weights_that_gain_are_packed() -> None:
    """From LEAST_PACKED elements on; a dtype that is not listed never is."""
    edge = LEAST_PACKED[torch.float32]
    network = nn.Sequential(
        nn.Linear(1, edge), nn.Linear(1, edge - 1), nn.Linear(1, edge).half(), nn.Linear(1, 9).bfloat16()
    )
    pack_for_inference(network)

    assert [type(layer) for layer in network] == [PackedLinear, nn.Linear, nn.Linear, PackedLinear]


@packs
def test_what_a_packed_layer_says_of_itself() -> None:
    """Shape, dtype, device and the number of parameters are those of the layer that it was."""
    layer = linear(600, 500, torch.bfloat16, bias=True)
    packed = PackedLinear(layer)

    assert (packed.weight.shape, packed.weight.dtype, packed.weight.device) == ((500, 600), torch.bfloat16, CPU)
    assert sum(map(torch.numel, packed.parameters())) == sum(map(torch.numel, layer.parameters()))


@pytest.mark.parametrize("lacks", ["oneDNN", "the product", "bfloat16"])
def test_nothing_is_packed_where_that_is_not_to_be_had(monkeypatch: pytest.MonkeyPatch, lacks: str) -> None:
    """A build without oneDNN or its product, a CPU that does not know bfloat16: the layers stay torch's."""
    if lacks == "oneDNN":
        monkeypatch.setattr(torch.backends.mkldnn, "is_available", lambda: False)
    elif lacks == "the product":
        monkeypatch.setattr(torch.ops, "mkldnn", object())
    else:
        monkeypatch.setattr(torch.ops.mkldnn, "_is_mkldnn_bf16_supported", lambda: False)
    network = nn.Sequential(linear(600, 600, torch.bfloat16, bias=False))
    pack_for_inference(network)

    assert type(network[0]) is nn.Linear


def test_only_what_lies_on_a_cpu_is_packed() -> None:
    """A GPU has its own order."""
    with torch.device("meta"):
        weight = torch.empty(600, 600)

    assert not worth_packing(weight)


class Pair(nn.Module):
    """Two layers that share their input, with a bias."""

    def __init__(self) -> None:
        super().__init__()
        self.k_proj, self.v_proj = nn.Linear(7, 3), nn.Linear(7, 5)
        self.kv_proj: nn.Module | None = None


def test_layers_that_share_their_input_become_one() -> None:
    """The fused layer's output is the first one's, then the second one's; the two are gone."""
    pair = Pair()
    rows = torch.randn(4, 7)
    apart = torch.cat((pair.k_proj(rows), pair.v_proj(rows)), dim=-1)
    pack_for_inference(pair)

    assert pair.kv_proj is not None
    assert not hasattr(pair, "k_proj")
    assert not hasattr(pair, "v_proj")
    torch.testing.assert_close(pair.kv_proj(rows), apart)


def test_half_a_pair_stays() -> None:
    """A module that has one of the names means something else by it."""
    pair = Pair()
    del pair.v_proj
    pack_for_inference(pair)

    assert type(pair.k_proj) is nn.Linear


def decoder(dtype: torch.dtype, *, width: int = 512, kv_heads: int = 4) -> Decoder:
    """Random weights, wide enough to be packed."""
    sizes = DecoderConfig(64, width, 336, 2, 4, kv_heads)
    return Decoder(sizes).to(dtype).requires_grad_(requires_grad=False).eval()


def said(asked: Decoder, rows: Tensor) -> Tensor:
    """Logits of a pass over all rows."""
    sizes = asked.config
    kv = FrameKV(KVShape(2, sizes.num_key_value_heads, sizes.head_dim, len(rows), rows.dtype, CPU).allocate())
    return asked.logits(DecoderRunner(asked).forward([SequenceSlice(rows, 0, kv)])[0])


@pytest.mark.parametrize("kv_heads", [4, 2])
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-5), (torch.bfloat16, 2e-2)])
def test_a_packed_decoder_gives_the_same(dtype: torch.dtype, tolerance: float, kv_heads: int) -> None:
    """Joined and packed, with as many key heads as query heads or fewer: what comes out differs by rounding."""
    asked, rows = decoder(dtype, kv_heads=kv_heads), torch.randn(19, 512).to(dtype)
    before = said(asked, rows)
    pack_for_inference(asked)
    after = said(asked, rows)

    torch.testing.assert_close(after, before, rtol=tolerance, atol=tolerance)
    names = {name.rpartition(".")[2] for name, _ in asked.named_modules()}
    assert {"kv_proj", "gate_up_proj"} <= names
    assert names.isdisjoint({"k_proj", "v_proj", "gate_proj", "up_proj"})


def test_settling_twice_is_settling_once() -> None:
    """The second time finds nothing to do."""
    asked = decoder(torch.bfloat16)
    pack_for_inference(asked)
    once = [*asked.named_modules()]
    pack_for_inference(asked)

    assert [*asked.named_modules()] == once


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_packed_network_gives_the_same(pristine: Path, dtype: torch.dtype) -> None:
    """Towers and projector too; and no parameter is lost."""
    folder = CheckpointFolder(pristine)
    with torch.device("meta"):
        network = PrismaticNetwork(PrismaticConfig.from_json(folder.json("config.json")))
    folder.load_into(network, dtype=dtype, device=CPU, unused=["vision_backbone."])
    pixels = torch.randn(1, 6, 224, 224).to(dtype)
    before, parameters = network.patches(pixels), sum(map(torch.numel, network.parameters()))
    pack_for_inference(network.requires_grad_(requires_grad=False))

    tolerance = 1e-5 if dtype == torch.float32 else 2e-2
    torch.testing.assert_close(network.patches(pixels), before, rtol=tolerance, atol=tolerance)
    assert sum(map(torch.numel, network.parameters())) == parameters


@packs
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_packed_layers_gradient_for_its_rows(dtype: torch.dtype) -> None:
    """That of the layer itself, within rounding: guidance differentiates through what is packed."""
    with torch.inference_mode(mode=False), torch.enable_grad():
        layer = linear(512, 700, dtype, bias=True)
        rows = torch.randn(2, 3, 512).to(dtype)
        pull = torch.randn(2, 3, 700).to(dtype)
        made = []
        for module in (layer, PackedLinear(layer)):
            start = rows.clone().requires_grad_()
            made.append(torch.autograd.grad(module(start), start, pull)[0])

    torch.testing.assert_close(made[1], made[0], rtol=2e-2 if dtype == torch.bfloat16 else 1e-4, atol=1e-2)
