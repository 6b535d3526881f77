from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from stillframe.models.quantised.int8_linear import LARGEST, Int8Linear
from stillframe.models.quantised.schemes import refusal

pytestmark = pytest.mark.skipif(
    refusal("int8", torch.float32, torch.device("cpu")) is not None, reason="this CPU multiplies no bytes"
)
COUNTS = (1, 2, 3, 6, 17, 64, 150, 300)


@pytest.fixture(autouse=True)
def repeatable() -> Iterator[None]:
    """The same random weights each time, and no gradients."""
    torch.manual_seed(3)
    with torch.inference_mode():
        yield


def linear(inputs: int, outputs: int, *, bias: bool = False) -> nn.Linear:
    """A layer with random weights."""
    return nn.Linear(inputs, outputs, bias=bias).requires_grad_(requires_grad=False)


def whole(rows: Tensor, scale: Tensor) -> Tensor:
    """Rows as whole numbers, divided in float32."""
    return (rows / scale).round().double()


def by_hand(layer: nn.Linear, rows: Tensor) -> Tensor:
    """The product of whole numbers, then both scales, in float64."""
    weight_scale = layer.weight.abs().amax(dim=1, keepdim=True) / LARGEST
    row_scale = rows.float().abs().amax(dim=-1, keepdim=True) / LARGEST
    product = whole(rows.float(), row_scale) @ whole(layer.weight, weight_scale).T
    bias = 0.0 if layer.bias is None else layer.bias.double()
    return product * row_scale.double() * weight_scale.double().T + bias


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize(("inputs", "outputs"), [(512, 512), (128, 336), (704, 131)])
def test_it_is_the_product_of_whole_numbers(inputs: int, outputs: int, *, bias: bool) -> None:
    """Rows and weights in eight bits, each to the scale of its own longest number; but for one that lies half way."""
    layer = linear(inputs, outputs, bias=bias)
    quantised = Int8Linear(layer)

    for count in COUNTS:
        rows = torch.randn(count, inputs) * torch.logspace(-3, 3, count)[:, None]
        expected, found = by_hand(layer, rows), quantised(rows).double()
        differing = (found - expected).norm(dim=-1) / expected.norm(dim=-1)
        assert differing.median() < 1e-6
        assert differing.max() < 2e-3  # one whole number of hundreds went the other way


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_it_is_near_the_product_as_it_was(dtype: torch.dtype) -> None:
    """Within 1.5 % of the length of what the layer gave: both roundings together."""
    layer = linear(1024, 512)
    rows = torch.randn(300, 1024).to(dtype)
    exact = functional.linear(rows.double(), layer.weight.double())
    found = Int8Linear(layer)(rows)

    assert found.dtype == dtype
    error = (found.double() - exact).norm() / exact.norm()
    assert 0.002 < error < 0.015


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_row_does_not_depend_on_which_others_share_its_pass(dtype: torch.dtype) -> None:
    """To the bit, for sums of whole numbers are exact: alone, among others, beside one that is a million times it."""
    quantised = Int8Linear(linear(336, 128, bias=True))
    rows = torch.randn(300, 336).to(dtype)
    rows[7] *= 1e6
    together = quantised(rows)

    assert torch.equal(together, torch.cat([quantised(row[None]) for row in rows]))
    for count in COUNTS:
        assert torch.equal(quantised(rows[-count:]), together[-count:])


def test_the_layer_that_is_given_stays_as_it_is() -> None:
    """Its weights are read, not written: they may lie in a file's mapping."""
    layer = linear(64, 64, bias=True)
    before = layer.weight.clone()
    Int8Linear(layer)

    assert torch.equal(layer.weight, before)


@pytest.mark.parametrize("spoilt", [torch.nan, torch.inf, -torch.inf])
def test_what_is_not_finite_stays_so(spoilt: float) -> None:
    """In its own row alone: whole numbers have no NaN, so it goes by the row's scale."""
    quantised = Int8Linear(linear(64, 32))
    rows = torch.randn(4, 64)
    expected = quantised(rows)
    rows[2, 5] = spoilt
    found = quantised(rows)

    assert not found[2].isfinite().any()
    assert torch.equal(found[[0, 1, 3]], expected[[0, 1, 3]])


def test_rows_and_weights_of_zeros_give_zeros() -> None:
    """A scale of nothing divides nothing."""
    layer = linear(64, 32)
    layer.weight[3] = 0
    quantised = Int8Linear(layer)

    assert torch.equal(quantised(torch.zeros(2, 64)), torch.zeros(2, 32))
    assert torch.equal(quantised(torch.randn(2, 64))[:, 3], torch.zeros(2))


def test_leading_sides_are_kept() -> None:
    """[batch, rows, in] -> [batch, rows, out], as the rows would be alone."""
    quantised = Int8Linear(linear(64, 32))
    rows = torch.randn(2, 3, 64)

    assert torch.equal(quantised(rows), quantised(rows.flatten(0, 1)).view(2, 3, 32))
