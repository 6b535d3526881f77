from __future__ import annotations

import logging
from typing import Any

import pytest
import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from stillframe.domain import WeightScheme
from stillframe.models.quantised.torchao_linear import LEAST_ROWS, TorchaoLinear, _config

pytest.importorskip("torchao")
ON_A_CPU: list[WeightScheme] = ["int8", "int8-weight-only"]


def linear(*, bias: bool = False) -> nn.Linear:
    """A layer with the same random weights each time."""
    torch.manual_seed(3)
    return nn.Linear(256, 128, bias=bias).bfloat16().requires_grad_(requires_grad=False)


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("scheme", ON_A_CPU)
def test_it_is_near_the_product_as_it_was(scheme: WeightScheme, *, bias: bool) -> None:
    """Within 1.5 % of its length, in its dtype and of its shape, whatever number of rows there is."""
    exact, quantised = linear(bias=bias), TorchaoLinear(linear(bias=bias), scheme)

    for sides in ((1,), (6,), (2, 3), (40,)):
        rows = torch.randn(*sides, 256).bfloat16()
        expected, found = exact(rows), quantised(rows)
        assert (found.shape, found.dtype) == (expected.shape, expected.dtype)
        error = (found.float() - expected.float()).norm() / expected.float().norm()
        assert 0.001 < error < 0.015


@pytest.mark.parametrize("rows", [1, LEAST_ROWS - 1, LEAST_ROWS, LEAST_ROWS + 1])
def test_few_rows_are_filled_up_where_a_gpu_refuses_them(rows: int) -> None:
    """The rows themselves come out as they would alone, and no others."""
    quantised = TorchaoLinear(linear(), "int8")
    given = torch.randn(rows, 256).bfloat16()
    alone = quantised(given)
    seen: list[int] = []
    product = torch.nn.functional.linear

    def counted(padded: torch.Tensor, *others: Any) -> torch.Tensor:
        seen.append(len(padded))
        return product(padded, *others)

    quantised._least_rows = LEAST_ROWS
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(torch.nn.functional, "linear", counted)
        assert torch.equal(quantised(given), alone)
    assert seen == [max(rows, LEAST_ROWS)]


@pytest.mark.parametrize("scheme", ON_A_CPU)
def test_a_pass_asks_the_host_for_nothing(scheme: WeightScheme) -> None:
    """No number is fetched and none is sent: a pass that does either cannot be captured in a graph."""
    quantised, ops = TorchaoLinear(linear(), scheme), []

    class Recorded(TorchDispatchMode):
        def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            ops.append(str(func))
            return func(*args, **(kwargs or {}))

    with torch.no_grad(), Recorded():
        quantised(torch.randn(20, 256).bfloat16())

    assert any("mm" in name for name in ops)
    assert not [name for name in ops if "_local_scalar_dense" in name or "lift_fresh" in name or "nonzero" in name]


def test_kinds_are_torchaos_own() -> None:
    """Scales a row, groups of 128, the packing whose kernel torch has; nothing touches inductor's settings."""
    from torchao.quantization import PerRow

    kinds: list[WeightScheme] = ["int8", "int8-weight-only", "int4-weight-only", "fp8"]
    int8, weight_only, int4, fp8 = map(_config, kinds)

    assert (type(int8).__name__, type(weight_only).__name__) == (
        "Int8DynamicActivationInt8WeightConfig",
        "Int8WeightOnlyConfig",
    )
    assert (int4.group_size, int4.int4_packing_format) == (128, "tile_packed_to_4d")
    assert fp8.granularity == [PerRow(), PerRow()]
    assert not any(config.set_inductor_config for config in (int8, weight_only, int4, fp8))


def test_what_torchao_logs_of_itself_is_kept_back(caplog: pytest.LogCaptureFixture) -> None:
    """And the loggers are as they were."""
    levels = [logging.getLogger(name).level for name in ("torchao", "torch.utils._pytree")]
    TorchaoLinear(linear(), "int8")

    assert caplog.messages == []
    assert [logging.getLogger(name).level for name in ("torchao", "torch.utils._pytree")] == levels
