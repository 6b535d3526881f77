from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from stillframe.models.llama import batch_invariance
from stillframe.models.llama.batch_invariance import is_batch_invariant
from stillframe.models.llama.decoder import Decoder, DecoderConfig
from stillframe.models.llama.runner import DecoderRunner
from stillframe.models.llama.weight_packing import pack_for_inference

SIZES = DecoderConfig(384, 128, 336, 3, 4, 2)
Change = Callable[[Tensor], Tensor]  # of rows [rows, width]


def decoder(dtype: torch.dtype = torch.float32) -> Decoder:
    """Random weights, packed."""
    torch.manual_seed(3)
    made = Decoder(SIZES).to(dtype).requires_grad_(requires_grad=False).eval()
    pack_for_inference(made)
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


class Scaled(nn.Module):
    """Half of what it is given, row by row: a product that no machine takes in another order."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.full((1,), 0.5), requires_grad=False)

    def forward(self, rows: Tensor) -> Tensor:
        """[..., width] -> the same."""
        return rows * self.weight


class Echo(Scaled):
    """In place of attention: each row attends to itself alone."""

    def forward(self, rows: Tensor, *places: Any) -> Tensor:
        """[rows, width] -> the same, of those that go on."""
        on = places[-1]
        return super().forward(rows if on is None else rows[on])


def echoing(positions: int = 2048) -> Decoder:
    """A decoder that is batch invariant on every machine, and in which the least difference comes out."""
    made = Decoder(replace(SIZES, max_position_embeddings=positions)).requires_grad_(requires_grad=False).eval()
    layer = made.model.layers[0]
    layer.self_attn, layer.mlp = Echo(), Scaled()
    layer.input_layernorm, layer.post_attention_layernorm = Scaled(), Scaled()
    made.model.norm, made.lm_head = Scaled(), Scaled()  # type: ignore[assignment]  # as much of them as is asked
    return made


def changed(module: nn.Module, change: Change) -> None:
    """From now on `change` is made to what the module puts out."""
    module.register_forward_hook(lambda _module, _given, out: change(out))


def by_count(rows: Tensor) -> Tensor:
    """Differs in the last place, where the rows are not so many as the guesses."""
    return rows if len(rows) == batch_invariance.DRAFT_ROWS else rows * (1 + 2**-20)


def by_the_rest(rows: Tensor) -> Tensor:
    """Differs in the last row alone, where rows are left over of blocks of 16."""
    rows = rows.clone()
    rows[-1] *= 1 + 2**-20 * (len(rows) % 16 == 5)
    return rows


def by_neighbours(rows: Tensor) -> Tensor:
    """Differs where there are more rows than any one sequence has."""
    return rows * (1 + 2**-20 * (len(rows) > 283 + batch_invariance.DRAFT_ROWS))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_what_cannot_differ_is_batch_invariant(dtype: torch.dtype) -> None:
    """Where each row comes out as it goes in, there is no difference to find."""
    assert is_batch_invariant(still(dtype))


def by_plan(rows: Tensor) -> Tensor:
    """Differs for a number of rows that only a delta frame has."""
    return rows * (1 + 2**-20 * (100 < len(rows) < 120))


def by_length(rows: Tensor) -> Tensor:
    """Differs in the last row, where there are more than any delta frame has."""
    rows = rows.clone()
    rows[-1] *= 1 + 2**-20 * (len(rows) > 250)
    return rows


def by_other_guesses(rows: Tensor) -> Tensor:
    """Differs in the last guess of a robot, where two others' come behind it."""
    rows = rows.clone()
    rows[batch_invariance.DRAFT_ROWS - 1] *= 1 + 2**-20 * (len(rows) == 3 * batch_invariance.DRAFT_ROWS)
    return rows


def by_rest(rest: int) -> Change:
    """Differs in the last row, where so many are left over of blocks of 16."""

    def change(rows: Tensor) -> Tensor:
        rows = rows.clone()
        rows[-1] *= 1 + 2**-20 * (len(rows) % 16 == rest)
        return rows

    return change


PLACES = ["self_attn", "mlp", "input_layernorm", "post_attention_layernorm"]


@pytest.mark.parametrize("change", [by_count, by_the_rest, by_neighbours, by_plan, by_length, by_other_guesses])
@pytest.mark.parametrize("place", PLACES)
def test_a_small_difference_is_found(change: Change, place: str) -> None:
    """In attention, behind it or before it, however few counts of rows show it."""
    asked = echoing()
    assert is_batch_invariant(asked)
    changed(asked.model.layers[0].get_submodule(place), change)

    assert not is_batch_invariant(asked)


@pytest.mark.parametrize("rest", range(16))
def test_what_is_left_over_of_blocks_is_found(rest: int) -> None:
    """Kernels take rows by fours, eights or sixteens: prompts of all lengths up to that are tried."""
    asked = echoing()
    changed(asked.model.layers[0].get_submodule("mlp"), by_rest(rest))

    assert not is_batch_invariant(asked)


def test_the_decoders_own_norm_is_tried() -> None:
    """The last one, which the guesses' rows go through in every pass."""
    asked = echoing()
    changed(asked.model.norm, by_count)

    assert not is_batch_invariant(asked)


@pytest.mark.parametrize("positions", [12, 40, 100, 289])
def test_a_decoder_of_few_positions_is_tried_as_far_as_they_go(positions: int) -> None:
    """Prompts are no longer than what it has angles for."""
    assert is_batch_invariant(echoing(positions))


def test_guesses_are_tried_where_the_prefill_had_them() -> None:
    """The same rows at the same positions, over the keys and values that are there."""
    asked = batch_invariance._shortened(decoder())
    prompt = batch_invariance._prompt(asked, 9, torch.Generator().manual_seed(1))
    guesses = batch_invariance._draft(prompt)

    assert (guesses.first, guesses.stop, prompt.stop) == (9, 15, 15)
    assert torch.equal(guesses.rows, prompt.rows[9:])
    assert guesses.kv is prompt.kv


@pytest.mark.parametrize(
    "block", [batch_invariance.DRAFT_ROWS, 1 + batch_invariance.DRAFT_ROWS, 3 * batch_invariance.DRAFT_ROWS]
)
def test_a_head_that_differs_is_found(block: int) -> None:
    """The head gets as many rows as there are guesses, one more in the prefill, and those of several robots."""
    asked = echoing()
    changed(asked.lm_head, lambda logits: logits * (1 + 2**-20 * (len(logits) % block == 0)))

    assert not is_batch_invariant(asked)


def test_a_gpu_is_not_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is not on a CPU counts as unsteady, and nothing is computed."""

    def fail(*_: Any) -> None:
        pytest.fail("a pass was run")

    monkeypatch.setattr(DecoderRunner, "forward", fail)
    with torch.device("meta"):
        elsewhere = Decoder(SIZES)

    assert not is_batch_invariant(elsewhere)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_what_was_found_holds_elsewhere(dtype: torch.dtype) -> None:
    """Prompts of lengths that were not tried, and more sequences side by side: equal to the bit, if so found.

    Where this machine's products are not, they differ by no more than rounding.
    """
    asked = decoder(dtype)
    reach = 0.0 if is_batch_invariant(asked) else 16 * torch.finfo(dtype).eps

    def alike(one: Tensor, other: Tensor) -> bool:
        return bool((one - other).abs().max() <= reach * one.abs().max())

    runner, noise = DecoderRunner(batch_invariance._shortened(asked)), torch.Generator().manual_seed(8)
    with torch.inference_mode():
        prompts = [batch_invariance._prompt(runner.decoder, rows, noise) for rows in (30, 64, 91, 200, 262, 291)]
        for prompt in [*prompts, *map(batch_invariance._thinned, prompts)]:
            assert alike(*batch_invariance._prefilled_and_repeated(runner, prompt))
        for sequences in (prompts, [batch_invariance._draft(prompt) for prompt in prompts]):
            assert alike(*batch_invariance._together_and_alone(runner, sequences))


def test_the_decoder_stays_as_it_is() -> None:
    """The try leaves the decoder's layers, and torch's random numbers, alone."""
    asked = decoder()
    layers, random = [*asked.model.layers], torch.random.get_rng_state()
    is_batch_invariant(asked)

    assert [*asked.model.layers] == layers
    assert torch.equal(torch.random.get_rng_state(), random)
