from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from stillframe.models import steadiness
from stillframe.models.decoder import Decoder, DecoderConfig
from stillframe.models.settling import settle
from stillframe.models.steadiness import steady

SIZES = DecoderConfig(384, 128, 336, 3, 4, 2)
Change = Callable[[Tensor], Tensor]  # of rows [rows, width]


def decoder(dtype: torch.dtype = torch.float32) -> Decoder:
    """Random weights, settled."""
    torch.manual_seed(3)
    made = Decoder(SIZES).to(dtype).requires_grad_(requires_grad=False).eval()
    settle(made)
    return made


def still(dtype: torch.dtype = torch.float32) -> Decoder:
    """A decoder whose layers add nothing and whose head says nothing: no machine can make it unsteady."""
    made = decoder(dtype)
    made.model.layers[0].self_attn.o_proj = nn.Linear(128, 128, bias=False).to(dtype)
    made.model.layers[0].mlp.down_proj = nn.Linear(336, 128, bias=False).to(dtype)
    made.lm_head = nn.Linear(128, 384, bias=False).to(dtype)
    for layer in (made.model.layers[0].self_attn.o_proj, made.model.layers[0].mlp.down_proj, made.lm_head):
        nn.init.zeros_(layer.weight)
    return made.requires_grad_(requires_grad=False)


def changed(module: nn.Module, change: Change) -> None:
    """From now on `change` is made to what the module puts out."""
    module.register_forward_hook(lambda _module, _given, out: change(out))


def by_count(rows: Tensor) -> Tensor:
    """Differs in the last place, where the rows are not so many as the guesses."""
    return rows if len(rows) == steadiness.GUESSES else rows * (1 + 2**-20)


def by_the_rest(rows: Tensor) -> Tensor:
    """Differs in the last row alone, where rows are left over of blocks of 16."""
    rows = rows.clone()
    rows[-1] *= 1 + 2**-20 * (len(rows) % 16 == 5)
    return rows


def by_neighbours(rows: Tensor) -> Tensor:
    """Differs where there are more rows than any one strand has."""
    return rows * (1 + 2**-20 * (len(rows) > 283 + steadiness.GUESSES))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_what_cannot_differ_is_steady(dtype: torch.dtype) -> None:
    """Where each row comes out as it goes in, there is no difference to find."""
    assert steady(still(dtype))


def by_plan(rows: Tensor) -> Tensor:
    """Differs for a number of rows that only a delta frame has."""
    return rows * (1 + 2**-20 * (100 < len(rows) < 120))


@pytest.mark.parametrize("change", [by_count, by_the_rest, by_neighbours, by_plan])
@pytest.mark.parametrize("place", ["self_attn.q_proj", "mlp", "input_layernorm"])
def test_a_small_difference_is_found(change: Change, place: str) -> None:
    """In attention, behind it or before it, however few counts of rows show it."""
    asked = decoder()
    changed(asked.model.layers[0].get_submodule(place), change)

    assert not steady(asked)


@pytest.mark.parametrize("block", [steadiness.GUESSES, 1 + steadiness.GUESSES, 3 * steadiness.GUESSES])
def test_a_head_that_differs_is_found(block: int) -> None:
    """The head hears as many rows as there are guesses, one more in the prefill, and those of several robots."""
    asked = still()
    nn.init.ones_(asked.lm_head.weight)
    changed(asked.lm_head, lambda logits: logits * (1 + 2**-20 * (len(logits) % block == 0)))

    assert not steady(asked)


def test_a_gpu_is_not_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is not on a CPU counts as unsteady, and nothing is computed."""

    def fail(*_: Any) -> None:
        pytest.fail("a pass was run")

    monkeypatch.setattr(steadiness, "run", fail)
    with torch.device("meta"):
        elsewhere = Decoder(SIZES)

    assert not steady(elsewhere)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_what_was_found_steady_is_steady_elsewhere(dtype: torch.dtype) -> None:
    """Prompts of lengths that were not tried, and more strands side by side: equal to the bit."""
    asked = decoder(dtype)
    if not steady(asked):
        pytest.skip("on this machine a row's numbers depend on how many rows share its pass")
    short, noise = steadiness._shortened(asked), torch.Generator().manual_seed(8)
    with torch.inference_mode():
        prompts = [steadiness._prompt(short, rows, noise) for rows in (30, 64, 91, 200, 262, 291)]
        for prompt in [*prompts, *map(steadiness._thinned, prompts)]:
            assert torch.equal(*steadiness._prefilled_and_again(short, prompt))
        for strands in (prompts, [steadiness._guesses(prompt) for prompt in prompts]):
            assert torch.equal(*steadiness._together_and_alone(short, strands))


def test_the_decoder_stays_as_it_is() -> None:
    """The try leaves the decoder's layers, and torch's random numbers, alone."""
    asked = decoder()
    layers, random = [*asked.model.layers], torch.random.get_rng_state()
    steady(asked)

    assert [*asked.model.layers] == layers
    assert torch.equal(torch.random.get_rng_state(), random)
