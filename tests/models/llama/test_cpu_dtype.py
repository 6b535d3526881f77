from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from stillframe.errors import ConfigError
from stillframe.models.llama import cpu_dtype
from stillframe.models.llama.cpu_dtype import WORTH, DtypeTiming, time_dtypes
from stillframe.models.llama.decoder import DecoderConfig
from stillframe.models.llama.runner import DecoderRunner
from stillframe.models.quantised.int8_linear import Int8Linear
from stillframe.models.quantised.schemes import refusal

SIZES = DecoderConfig(64, 32, 48, 5, 4, 2)


@pytest.mark.parametrize(
    ("bfloat16_ms", "name"), [(1.0, "bfloat16"), (1.01, "float32"), (1.5, "float32"), (0.1, "bfloat16")]
)
def test_bfloat16_is_taken_where_it_is_worth_its_rounding(bfloat16_ms: float, name: str) -> None:
    """Clearly faster, not just faster."""
    found = DtypeTiming(float32_ms=WORTH, bfloat16_ms=bfloat16_ms)

    assert (found.name, found.dtype) == (name, getattr(torch, name))


def test_each_dtype_is_timed_in_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """The first figure is that of a layer in float32, the second that of one in bfloat16."""
    frames = cpu_dtype._frame
    costs_s = {torch.float32: 0.5, torch.bfloat16: 0.25}
    jobs: dict[Callable[[], None], float] = {}

    def noted(decoder: cpu_dtype.Decoder) -> Callable[[], None]:
        job = frames(decoder)
        jobs[job] = costs_s[decoder.model.layers[0].self_attn.o_proj.weight.dtype]
        return job

    monkeypatch.setattr(cpu_dtype, "_frame", noted)
    monkeypatch.setattr(cpu_dtype, "_thread_s", jobs.__getitem__)

    assert time_dtypes(SIZES) == DtypeTiming(float32_ms=500, bfloat16_ms=250)


def test_the_fastest_of_several_counts() -> None:
    """What else ran meanwhile makes a job slower, never faster; the first time is not timed."""
    times_s = iter([1.0, 0.11, 2.0, 0.09])
    ran: list[str] = []
    jobs = [lambda: ran.append("one"), lambda: ran.append("two")]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cpu_dtype, "ENOUGH_S", 3.0)
        patch.setattr(cpu_dtype, "_thread_s", lambda _job: next(times_s))
        found = cpu_dtype._fastest_ms(jobs)

    assert found == [1000.0, 90.0]
    assert ran == ["one", "two"]


@pytest.mark.skipif(refusal("int8", torch.float32, cpu_dtype.CPU) is not None, reason="this CPU multiplies no bytes")
@pytest.mark.parametrize("dtype", cpu_dtype.DTYPES)
def test_a_layer_of_the_kind_that_is_served_is_timed(dtype: torch.dtype) -> None:
    """Rows in the dtype, weights in eight bits."""
    layer = cpu_dtype.one_layer(SIZES, dtype, "int8")

    assert isinstance(layer.model.layers[0].mlp.down_proj, Int8Linear)
    assert layer.model.norm.weight.dtype == dtype


def test_a_kind_that_cannot_be_had_is_not_timed() -> None:
    """But refused, as a fault of the configuration."""
    with pytest.raises(ConfigError, match="weights: fp8 takes a GPU"):
        time_dtypes(SIZES, "fp8")


def test_a_layer_of_the_checkpoints_sizes_is_timed() -> None:
    """One layer, packed as a checkpoint's is, and time that is time."""
    layer = cpu_dtype.one_layer(SIZES, torch.float32)
    found = time_dtypes(SIZES)

    assert len(layer.model.layers) == 1
    assert layer.model.layers[0].get_submodule("self_attn.kv_proj") is not None
    assert layer.model.layers[0].get_submodule("mlp.down_proj").in_features == 48
    assert found.float32_ms > 0
    assert found.bfloat16_ms > 0


def test_a_frame_is_its_prefill_and_the_passes_behind_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """As where every guess was wrong: the prompt once, then its last few rows again and again."""
    ran: list[tuple[int, int]] = []
    monkeypatch.setattr(
        DecoderRunner,
        "forward",
        lambda _runner, sequences: ran.extend((sequence.first, sequence.stop) for sequence in sequences),
    )
    cpu_dtype._frame(cpu_dtype.one_layer(SIZES, torch.float32))()

    assert ran == [(0, 290)] + 6 * [(284, 290)]


def test_nothing_random_is_drawn() -> None:
    """Measuring leaves torch's random numbers alone."""
    before = torch.random.get_rng_state()
    time_dtypes(SIZES)

    assert torch.equal(torch.random.get_rng_state(), before)
