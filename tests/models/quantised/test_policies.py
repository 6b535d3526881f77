"""Policies with quantised weights: how far their rows and actions lie from those of the same weights as they are."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from stillframe.domain import WeightScheme
from stillframe.engine.kv_slots import kv_shape
from stillframe.engine.local import LocalPolicy
from stillframe.errors import ConfigError
from stillframe.models.base import PolicyModel
from stillframe.models.llama.runner import DecoderRunner
from stillframe.models.llama.sequence import SequenceSlice
from stillframe.models.pi0.model import Pi0
from stillframe.models.prismatic.policy import PrismaticPolicy
from stillframe.models.quantised.int8_linear import Int8Linear
from stillframe.models.quantised.quantise import bytes_by_scheme, weight_bytes
from stillframe.models.quantised.schemes import refusal
from stillframe.models.registry import load_policy
from stillframe.reuse.kv import FrameKV
from stillframe_lab.latency.scene import load_scene

CHECKPOINTS, GOLDENS = Path(__file__).parents[3] / "checkpoints", Path(__file__).parents[2] / "goldens"
CPU = torch.device("cpu")
# Of a hidden row's length. Measured: 1.5 % and 3.6 % in int8, 0.4 % and 1.2 % in int8-weight-only, and in bfloat16, as
# the weights are, 0.6 % and 1.5 %.
MEAN_ERROR, P99_ERROR = 0.025, 0.06
FRAMES = slice(0, 40, 8)

Load = Callable[..., PrismaticPolicy]

needs_int8 = pytest.mark.skipif(refusal("int8", torch.float32, CPU) is not None, reason="this CPU multiplies no bytes")
needs_torchao = pytest.mark.skipif(
    refusal("int8-weight-only", torch.float32, CPU) is not None, reason="torchao is not installed"
)
KINDS = [pytest.param("int8", marks=needs_int8), pytest.param("int8-weight-only", marks=needs_torchao)]


@pytest.fixture(scope="module")
def load() -> Load:
    """A shipped checkpoint by name and kind of weights, rows in float32: `load("jaco-tiny", "int8")`."""

    @cache
    def loaded(name: str, weights: WeightScheme = "as-is", dtype: torch.dtype = torch.float32) -> PrismaticPolicy:
        policy = load_policy(CHECKPOINTS / name, dtype=dtype, device=CPU, weights=weights)
        return cast("PrismaticPolicy", policy)

    return loaded


def observed(policy: PolicyModel) -> list[dict[str, Any]]:
    """Frames of the recorded episode, as the policy asks for them."""
    shots = [shot.of_policy(policy.info) for shot in load_scene().shots[FRAMES]]
    return [{"images": {**shot.images}, "instruction": shot.instruction, "state": shot.state} for shot in shots]


def hidden_rows(policy: PrismaticPolicy, prompt: Tensor) -> Tensor:
    """Normed hidden rows of one pass over embedded rows [rows, width]."""
    kv = FrameKV(kv_shape(policy, len(prompt)).allocate())
    return DecoderRunner(policy.decoder).forward([SequenceSlice(prompt, 0, kv)])[0]


@pytest.mark.parametrize("weights", KINDS)
@pytest.mark.parametrize("name", ["jaco-tiny", "jaco-tiny-oft"])
@torch.inference_mode()
def test_hidden_rows_are_near(load: Load, name: str, weights: WeightScheme) -> None:
    """Of both families, over the same embedded frames."""
    plain, quantised = load(name), load(name, weights)
    errors = []
    for shot in load_scene().shots[FRAMES]:
        (prompt,) = plain.embed([plain.prepare(shot.of_policy(plain.info))])
        rows, found = hidden_rows(plain, prompt), hidden_rows(quantised, prompt)
        errors.append((found - rows).norm(dim=-1) / rows.norm(dim=-1))

    error = torch.cat(errors)
    assert 1e-4 < error.mean() < MEAN_ERROR
    assert error.quantile(0.99) < P99_ERROR


@pytest.mark.parametrize("weights", KINDS)
def test_tokens_agree(load: Load, weights: WeightScheme) -> None:
    """Of the trained OpenVLA: two of three are the same, and none lies more than five bins off."""
    plain, quantised = load("jaco-tiny"), load("jaco-tiny", weights)
    expected, found = (tokens(policy) for policy in (plain, quantised))

    assert (found == expected).mean() > 2 / 3
    assert np.abs(found - expected).max() <= 5


@pytest.mark.parametrize("weights", KINDS)
def test_chunks_are_near(load: Load, weights: WeightScheme) -> None:
    """Of the trained OFT: every number of every action within 2 % of its range, the gripper's too."""
    plain, quantised = load("jaco-tiny-oft"), load("jaco-tiny-oft", weights)
    (ends,) = plain.info.norm_stats.values()
    span = np.asarray(ends["q99"]) - np.asarray(ends["q01"])
    expected, found = (chunks(policy) for policy in (plain, quantised))

    error = np.abs(found - expected) / span
    assert 0 < error.max() < 0.02
    assert error.mean() < 0.002


@needs_int8
@pytest.mark.parametrize("name", ["pi0-micro", "pi05-micro"])
def test_flows_are_near(name: str) -> None:
    """A prefix in int8 leads the expert, which stays as it is, to nearly the same chunk."""
    plain, quantised = (
        load_policy(GOLDENS / "pi0" / name, dtype=torch.float32, device=CPU, weights=weights)
        for weights in ("as-is", "int8")
    )
    assert isinstance(plain, Pi0)
    assert isinstance(quantised, Pi0)
    assert isinstance(quantised.decoder.model.layers[0].mlp.down_proj, Int8Linear)
    assert not any(isinstance(layer, Int8Linear) for layer in quantised.network.expert.modules())
    (prompt,) = embedded(plain)
    torch.manual_seed(5)
    noise = torch.randn(1, plain.config.horizon, plain.network.sizes.action_dim)
    state = None if plain.network.sizes.adaptive else torch.zeros(1, plain.network.sizes.action_dim)
    with torch.inference_mode():
        drawn = [flow(policy, prompt, state, noise) for policy in (plain, quantised)]

    moved = (drawn[0] - noise).norm()
    assert 0 < (drawn[1] - drawn[0]).norm() / moved < 0.02


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@needs_int8
def test_int8_does_not_cost_batch_invariance(load: Load, dtype: torch.dtype) -> None:
    """Sums of whole numbers are exact: a decoder that was batch invariant still is."""
    plain, quantised = load("jaco-tiny", dtype=dtype), load("jaco-tiny", "int8", dtype)

    assert quantised.info.batch_invariant or not plain.info.batch_invariant


@pytest.mark.parametrize("weights", KINDS)
def test_a_lead_of_quantised_weights_is_never_decisive(load: Load, weights: WeightScheme) -> None:
    """How far rounding moves one was measured of weights as they are: without that no norm is taken."""
    assert load("jaco-tiny", weights).decoder.max_head_norm == torch.inf
    assert load("jaco-tiny").decoder.max_head_norm < torch.inf


@pytest.mark.parametrize("weights", KINDS)
def test_the_contract_says_what_is_held(load: Load, weights: WeightScheme) -> None:
    """Kind and bytes; parameters are those of the checkpoint, whatever holds them."""
    plain, quantised = load("jaco-tiny").info, load("jaco-tiny", weights).info
    planned = bytes_by_scheme(plain.parameters, untouched(), 4)

    assert (plain.weights, plain.weight_bytes) == ("as-is", 4 * plain.parameters)
    assert (quantised.weights, quantised.parameters) == (weights, plain.parameters)
    scales = quantised.weight_bytes - planned[weights]
    assert 0 < scales < 0.02 * planned[weights]
    assert planned["as-is"] == plain.weight_bytes


@needs_int8
def test_only_the_decoders_layers_are_quantised(load: Load) -> None:
    """Of a head, embeddings, towers and projector every number is as it was stored."""
    plain, quantised = load("jaco-tiny").network, load("jaco-tiny", "int8").network
    held = [name for name, module in quantised.named_modules() if isinstance(module, Int8Linear)]

    assert len(held) == 5 * len(plain.language_model.model.layers)
    assert all(name.startswith("language_model.model.layers.") for name in held)
    ours, theirs = quantised.state_dict(), plain.state_dict()
    same = [name for name in theirs if not name.startswith("language_model.model.layers.")]
    assert all(torch.equal(ours[name], theirs[name]) for name in same)


@pytest.mark.parametrize(("name", "said"), [("int4-weight-only", "takes a GPU"), ("fp8", "takes a GPU")])
def test_what_cannot_be_had_is_refused_before_a_weight_is_read(name: WeightScheme, said: str) -> None:
    """As a fault of the configuration, which names the setting."""
    with pytest.raises(ConfigError, match=f"weights: {name} {said}"):
        load_policy(CHECKPOINTS / "jaco-tiny", dtype=torch.bfloat16, device=CPU, weights=name)


def test_layers_that_do_not_fit_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fp8's kernels take multiples of 16, int4's groups 128: jaco-tiny's feed-forward is 336 wide."""
    monkeypatch.setattr("stillframe.models.quantised.quantise.refusal", lambda *_: None)

    with pytest.raises(ConfigError, match=r"multiples of 128; 0.mlp.gate_proj is of 128 to 336"):
        load_policy(CHECKPOINTS / "jaco-tiny", dtype=torch.bfloat16, device=CPU, weights="int4-weight-only")
    assert [*bytes_by_scheme(0, untouched(), 4)] == ["as-is", "int8", "int8-weight-only", "fp8"]


def test_bytes_of_modules_add_up() -> None:
    """Parameters and buffers of all, of none that is absent."""
    norm = torch.nn.BatchNorm1d(3)  # 2 x 3 parameters, 2 x 3 buffers, and a count in eight bytes

    assert weight_bytes(norm, None, torch.nn.Linear(2, 3, bias=False)) == 4 * 12 + 8 + 4 * 6


def untouched() -> Any:
    """The decoder of jaco-tiny on the meta device: layers as they are stored."""
    return load_policy(CHECKPOINTS / "jaco-tiny", dtype=torch.float32, device=torch.device("meta")).decoder


def tokens(policy: PolicyModel) -> NDArray[np.int64]:
    """[frames, 7], each frame by itself."""
    local = LocalPolicy(policy)
    found = []
    for frame in observed(policy):
        local(frame)
        found.append(local.last.chunk.tokens)
    return np.stack(cast("list[NDArray[np.int64]]", found))


def chunks(policy: PolicyModel) -> NDArray[np.float64]:
    """[frames, horizon, 7]."""
    local = LocalPolicy(policy)
    found = []
    for frame in observed(policy):
        local(frame)
        found.append(local.last.chunk.actions)
    return np.stack(found)


def embedded(policy: Pi0) -> list[Tensor]:
    """The prefix's rows of a picture of noise."""
    torch.manual_seed(7)
    return [torch.randn(40, policy.network.sizes.decoder.hidden_size)]


def flow(policy: Pi0, prompt: Tensor, state: Tensor | None, noise: Tensor) -> Tensor:
    """A chunk over that prefix."""
    kv = FrameKV(kv_shape(policy, len(prompt)).allocate())
    DecoderRunner(policy.decoder).forward([SequenceSlice(prompt, 0, kv)])
    return policy.network.draw([kv], [len(prompt)], state, noise)
