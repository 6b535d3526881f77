from __future__ import annotations

from types import MappingProxyType, SimpleNamespace
from typing import get_args

import pytest
import torch

from stillframe.domain import WeightScheme
from stillframe.models.quantised import schemes
from stillframe.models.quantised.schemes import SCHEMES, refusal

CPU, GPU = torch.device("cpu"), torch.device("cuda")
FLOAT32, BFLOAT16 = torch.float32, torch.bfloat16


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """An RTX 3090's compute capability, and torchao."""
    monkeypatch.setattr(schemes, "find_spec", lambda name: name)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _device: (8, 6))


def test_every_kind_but_as_is_has_needs() -> None:
    """The setting's words and the table agree."""
    assert {"as-is", *SCHEMES} == set(get_args(WeightScheme))


@pytest.mark.parametrize("dtype", [FLOAT32, BFLOAT16])
def test_weights_as_they_are_need_nothing(dtype: torch.dtype) -> None:
    """On any device."""
    assert refusal("as-is", dtype, CPU) is None
    assert refusal("as-is", dtype, GPU) is None


@pytest.mark.parametrize("name", ["int4-weight-only", "fp8"])
def test_what_a_cpu_has_no_product_for_is_refused(name: WeightScheme) -> None:
    """And what to take instead."""
    said = refusal(name, BFLOAT16, CPU)

    assert said == f"{name} takes a GPU: on a CPU there is no product by such weights; use int8, or as-is"


@pytest.mark.parametrize("has", ["avx512_vnni", "avx_vnni", "amx_int8"])
def test_a_cpu_that_adds_four_products_at_once_has_int8(monkeypatch: pytest.MonkeyPatch, has: str) -> None:
    """Any of three sets of instructions; torchao is not asked for."""
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: MappingProxyType({has: True}))
    monkeypatch.setattr(schemes, "find_spec", lambda _name: None)

    assert refusal("int8", FLOAT32, CPU) is None


def test_a_cpu_without_vnni_has_no_int8(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two products of bytes overflow the 16 bits in which it adds them."""
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: MappingProxyType({"avx2": True, "avx512_vnni": False}))

    said = refusal("int8", FLOAT32, CPU)
    assert said is not None
    assert "VNNI" in said
    assert "int8-weight-only, or as-is" in said


def test_a_build_without_onednn_has_no_int8(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whichever of the two is missing: the library, or the operator."""
    monkeypatch.setattr(torch.ops, "onednn", SimpleNamespace())
    said = refusal("int8", FLOAT32, CPU)
    monkeypatch.undo()
    monkeypatch.setattr(torch.backends.mkldnn, "is_available", lambda: False)

    assert said == refusal("int8", FLOAT32, CPU)
    assert said is not None
    assert "oneDNN" in said


@pytest.mark.parametrize(("name", "device"), [("int8-weight-only", CPU), ("int8", GPU), ("fp8", GPU)])
def test_without_torchao_it_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch, name: WeightScheme, device: torch.device
) -> None:
    """The extra, in full."""
    monkeypatch.setattr(schemes, "find_spec", lambda _name: None)

    said = refusal(name, BFLOAT16, device)
    assert said == f"{name} needs torchao, which is not installed here; run: pip install 'stillframe[quantised]'"


@pytest.mark.usefixtures("gpu")
@pytest.mark.parametrize("name", ["int4-weight-only", "fp8"])
def test_some_multiply_bfloat16_alone(name: WeightScheme) -> None:
    """Where dtype says float32."""
    assert "dtype is float32" in (refusal(name, FLOAT32, GPU) or "")
    assert "dtype is" not in (refusal(name, BFLOAT16, GPU) or "")


@pytest.mark.usefixtures("gpu")
@pytest.mark.parametrize("name", ["int8", "int8-weight-only"])
def test_the_others_multiply_float32_too(name: WeightScheme) -> None:
    """On a GPU."""
    assert refusal(name, FLOAT32, GPU) is None


@pytest.mark.usefixtures("gpu")
def test_an_older_gpu_has_no_fp8() -> None:
    """8.6 is told that 8.9 is the least; the other kinds it has."""
    assert refusal("fp8", BFLOAT16, GPU) == (
        "fp8 needs a GPU of compute capability 8.9, and cuda is of 8.6; use another kind, or as-is"
    )
    for name in ("int8", "int8-weight-only", "int4-weight-only"):
        assert refusal(name, BFLOAT16, GPU) is None
