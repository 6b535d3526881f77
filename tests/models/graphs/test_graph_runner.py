from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import Tensor

from stillframe.domain import PassCounts
from stillframe.models.graphs.graph_runner import CudaGraphRunner
from stillframe.models.graphs.shapes import capture_shapes
from stillframe.models.llama.history_attention import HistoryKV
from stillframe.models.llama.layout import Mask
from stillframe.models.llama.sequence import SequenceSlice
from stillframe.reuse.kv import FrameKV

CAPACITY, ANSWER_ROWS = 40, 4
House = Any  # of conftest.py, which cannot be imported by name


def both(house: House, sequences: list[SequenceSlice]) -> tuple[list[Tensor], list[Tensor], Tensor, Tensor]:
    """What comes out eagerly and replayed, and what the pool then holds; every row of it that can be read."""
    before = house.pool.storage.clone()
    with torch.inference_mode():
        eager = house.runner().forward(sequences)
        left = house.pool.storage[..., :-1, :].clone()
        house.pool.storage.copy_(before)
        graphs = house.captured()
        house.pool.storage.copy_(before)
        replayed = house.runner(graphs).forward(sequences)
    assert sum(graphs.counts.eager.values()) == 0
    assert graphs.counts.replays == house.player.replayed > 0
    return eager, replayed, left, house.pool.storage[..., :-1, :]


def check(house: House, sequences: list[SequenceSlice]) -> None:
    """Equal up to rounding, hidden rows and the whole pool; no other slot changes, to the bit."""
    before = house.pool.storage[..., :-1, :].clone()
    eager, replayed, left, held = both(house, sequences)
    assert [len(own) for own in eager] == [len(own) for own in replayed]
    for one, other in zip(eager, replayed, strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=1e-5)
        assert torch.equal(house.decoder.logits(one).argmax(-1), house.decoder.logits(other).argmax(-1))
    torch.testing.assert_close(left, held, rtol=0, atol=2e-5)  # 1.2e-5 was met after three layers
    used = {house.pool.slot_of(sequence.kv) for sequence in sequences}
    others = [slot for slot in range(len(before)) if slot not in used]
    assert torch.equal(before[others], held[others])


@st.composite
def passes(draw: st.DrawFn) -> dict[str, Any]:
    """A decoder's sizes, and prompts with what they drop."""
    prompts = draw(st.lists(st.tuples(st.integers(ANSWER_ROWS, CAPACITY), st.booleans()), min_size=1, max_size=5))
    drops = [
        draw(st.sets(st.integers(0, rows - 1 - ANSWER_ROWS))) if thinned and rows > ANSWER_ROWS else set()
        for rows, thinned in prompts
    ]
    sizes = {
        "seed": draw(st.integers(0, 99)),
        "layers": draw(st.integers(1, 3)),
        "kv_heads": draw(st.sampled_from([1, 2, 4])),
    }
    return {"sizes": sizes, "prompts": [(rows, sorted(drop)) for (rows, _), drop in zip(prompts, drops, strict=True)]}


@settings(max_examples=settings().max_examples // 3, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(made=passes())
def test_a_replayed_pass_in_which_all_rows_attend_to_all(new_house: Callable[..., House], made: dict[str, Any]) -> None:
    """The eager one's numbers as well, whatever its batch and its plan: no row sees a key of padding."""
    house = new_house(**made["sizes"])
    house.mask = Mask.BIDIRECTIONAL

    check(house, [house.prompt(rows, house.slot(), dropped) for rows, dropped in made["prompts"]])


def test_a_pass_of_another_mask_is_run_eagerly(house: House) -> None:
    """And is counted under that reason."""
    graphs, prompt = house.captured(), house.prompt(9, house.slot())

    assert graphs.replay([replace(prompt, mask=Mask.BIDIRECTIONAL)]) is None
    assert graphs.counts.eager["mask"] == 1
    assert graphs.replay([prompt]) is not None


def test_what_follows_a_pruned_prompt_is_run_eagerly(house: House) -> None:
    """A replay would see every position; under the reason `pruned`, until the slot begins another sequence."""
    graphs, prompt = house.captured(), house.prompt(9, house.slot())
    prompt.kv.reserve(9)
    prompt.kv.prune(1, torch.tensor([0, 3, 8]))

    assert graphs.replay([house.guesses(prompt)]) is None
    assert graphs.counts.eager["pruned"] == 1
    prompt.kv.begin()
    assert graphs.replay([prompt]) is not None


@settings(max_examples=settings().max_examples // 3, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(made=passes())
def test_a_replayed_prompt_is_the_eager_one(new_house: Callable[..., House], made: dict[str, Any]) -> None:
    """Random decoders, batches and plans: the same hidden rows, tokens and pool; then the same over the guesses."""
    house = new_house(**made["sizes"])
    sequences = [house.prompt(rows, house.slot(), dropped) for rows, dropped in made["prompts"]]

    check(house, sequences)
    house.player.replayed = 0
    check(house, [house.guesses(sequence) for sequence in sequences])


def test_stale_rows_that_are_not_finite_reach_no_other(house: House) -> None:
    """Behind a sequence lies what an earlier holder of the slot left, in scratch what any sequence did: NaN perhaps."""
    sequence, beside = (house.prompt(rows, house.slot(), [3, 4]) for rows in (20, 13))
    for used in (sequence, beside):
        house.pool.storage[house.pool.slot_of(used.kv), ..., used.stop :, :] = torch.nan
    check_finite(house, [sequence, beside])


def check_finite(house: House, sequences: list[SequenceSlice]) -> None:
    """The eager pass's numbers."""
    eager, replayed, _, _ = both(house, sequences)
    for one, other in zip(eager, replayed, strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=1e-5)


@torch.inference_mode()
def test_a_broken_frame_breaks_no_other(house: House) -> None:
    """NaN in one sequence stays in its slot; the pass after it, in the same buffers, knows nothing of it."""
    broken, fine = (house.prompt(20, house.slot()) for _ in range(2))
    expected = house.runner().forward([fine])[0]
    runner = house.runner(house.captured())
    broken.rows[5] = torch.nan
    side_by_side = runner.forward([broken, fine])
    after = runner.forward([house.prompt(11, house.slot()), fine])

    assert side_by_side[0].isnan().any()
    torch.testing.assert_close(side_by_side[1], expected, rtol=0, atol=1e-5)
    torch.testing.assert_close(after[1], expected, rtol=0, atol=1e-5)
    assert after[0].isfinite().all()


@torch.inference_mode()
def test_results_are_not_the_buffers(house: House) -> None:
    """What one pass gave stays as it is when the next one is replayed."""
    runner = house.runner(house.captured())
    sequence = house.prompt(20, house.slot())
    first = runner.forward([sequence])[0]
    kept = first.clone()
    runner.forward([replace(sequence, rows=house.rows(20))])

    assert torch.equal(first, kept)


@torch.inference_mode()
def test_a_frame_that_is_whole_does_not_lengthen_the_others(house: House) -> None:
    """Three of twelve rows and one of forty go in two passes where that takes less, and come out in their order."""
    graphs = house.captured()
    rows = (12, 40, 12, 12)
    sequences = [house.prompt(number, house.slot()) for number in rows]
    graphs.replay(sequences)
    together = graphs.counts.replays
    many = [house.prompt(12, house.slot()) for _ in range(2)]
    graphs.replay(sequences[:1] + many + sequences[2:])

    assert together == 1  # for a pass is dear beside rows as few as these
    assert graphs.counts.replays == 3  # five sequences: four and one


@torch.inference_mode()
def test_a_hook_sees_the_same(house: House) -> None:
    """The last rows that enter every layer, of a whole prompt and of a thinned one side by side."""
    whole, thinned = house.prompt(30, house.slot()), house.prompt(25, house.slot(), [2, 5, 6, 9])
    layers = house.decoder.config.num_hidden_layers
    heard = []
    for graphs in (None, house.captured()):
        hooks: list[dict[int, Tensor]] = [{}, {}]
        pairs = zip((whole, thinned), hooks, strict=True)
        house.runner(graphs).forward([replace(sequence, hook=listener(into), hook_rows=7) for sequence, into in pairs])
        heard.append(hooks)

    assert graphs.counts.replays == 1
    for eager, replayed in zip(*heard, strict=True):
        assert [*replayed] == [*range(layers)]
        for layer, rows in replayed.items():
            torch.testing.assert_close(eager[layer], rows, rtol=0, atol=1e-5)


@torch.inference_mode()
def test_a_hook_may_need_all_of_the_few_surviving_rows(house: House) -> None:
    """Fewer than hooks may ask for: they are the last of what is kept for hooks."""
    shapes = capture_shapes(CAPACITY, ANSWER_ROWS, [1], [6], 1)
    graphs = CudaGraphRunner(house.decoder, house.pool, shapes, house.player, hook_rows=8, counts=PassCounts())
    thinned = house.prompt(25, house.slot(), [*range(19)])
    heard: list[dict[int, Tensor]] = [{}, {}]
    for into, asked in zip(heard, (None, graphs), strict=True):
        hook = last_rows(6, into)
        house.runner(asked).forward([replace(thinned, hook=hook, hook_rows=6)])

    assert graphs.counts.replays == 1
    for layer, rows in heard[1].items():
        torch.testing.assert_close(rows, heard[0][layer], rtol=0, atol=1e-5)


@torch.inference_mode()
def test_a_few_rows_with_a_hook_take_a_prompts_shape(house: House) -> None:
    """As few as guesses are, they are put where a prompt is."""
    prompt = house.prompt(20, house.slot())
    guesses = replace(house.guesses(prompt), read=1)
    heard: list[dict[int, Tensor]] = [{}, {}]
    for into, asked in zip(heard, (None, house.captured()), strict=True):
        house.runner(asked).forward([replace(guesses, hook=last_rows(3, into), hook_rows=3)])

    for layer, rows in heard[1].items():
        torch.testing.assert_close(rows, heard[0][layer], rtol=0, atol=1e-5)


def last_rows(count: int, into: dict[int, Tensor]) -> Callable[[int, Tensor], None]:
    """A hook that needs so many of the last rows."""
    return lambda layer, rows: into.update({layer: rows[-count:].clone()})


def listener(into: dict[int, Tensor]) -> Callable[[int, Tensor], None]:
    """A hook that needs the last seven rows."""
    return lambda layer, rows: into.update({layer: rows[-7:].clone()})


def stranger(house: House, sequence: SequenceSlice) -> SequenceSlice:
    """In memory of its own."""
    return replace(sequence, kv=FrameKV(house.pool.shape.allocate()))


def late(_: House, sequence: SequenceSlice) -> SequenceSlice:
    """A plan by whose second layer rows leave."""
    return replace(sequence, kept={1: torch.arange(5, 20)})


def deaf(_: House, sequence: SequenceSlice) -> SequenceSlice:
    """A hook that does not say what it needs."""
    return replace(sequence, hook=lambda _, __: None)


def curious(_: House, sequence: SequenceSlice) -> SequenceSlice:
    """A hook that needs more rows than are kept."""
    return replace(sequence, hook=lambda _, __: None, hook_rows=9)


def read_whole(_: House, sequence: SequenceSlice) -> SequenceSlice:
    """Every row's hidden state is read."""
    return replace(sequence, read=None)


def looking_back(_: House, sequence: SequenceSlice) -> SequenceSlice:
    """At older frames."""
    return replace(sequence, history=HistoryKV(torch.empty(0), torch.empty(0), torch.empty(0), CAPACITY))


def thinner_than_heard(_: House, sequence: SequenceSlice) -> SequenceSlice:
    """Fewer rows go on than the hook needs."""
    kept = torch.arange(len(sequence.rows) - ANSWER_ROWS, len(sequence.rows))
    return replace(sequence, kept={0: kept}, hook=lambda _, __: None, hook_rows=ANSWER_ROWS + 1)


@pytest.mark.parametrize(
    ("odd", "reason"),
    [
        (stranger, "storage"),
        (late, "layers"),
        (deaf, "tap"),
        (curious, "tap"),
        (thinner_than_heard, "tap"),
        (looking_back, "history"),
        (read_whole, "rows"),
    ],
    ids=lambda part: getattr(part, "__name__", part),
)
@torch.inference_mode()
def test_what_was_not_captured_is_run_eagerly(house: House, odd: Callable[..., SequenceSlice], reason: str) -> None:
    """The whole pass, whatever else is in it, to the bit as without; it is counted with its reason."""
    sequences = [house.prompt(20, house.slot()), odd(house, house.prompt(20, house.slot()))]
    expected = house.runner().forward(sequences)
    graphs = house.captured()

    assert graphs.replay(sequences) is None
    assert all(map(torch.equal, house.runner(graphs).forward(sequences), expected))
    assert {reason: 2} == {name: count for name, count in graphs.counts.eager.items() if count}
    assert graphs.counts.replays == house.player.replayed == 0


def test_capture_touches_no_slot(house: House) -> None:
    """Sessions may be there already: what is computed to record lands in scratch."""
    house.slot()
    before = house.pool.storage[..., :-1, :].clone()
    made = house.captured()

    assert isinstance(made, CudaGraphRunner)
    assert house.player.recorded == 3 * 3 + 3  # batches times buckets and the whole slot; the guesses'
    assert torch.equal(house.pool.storage[..., :-1, :], before)


@torch.inference_mode()
def test_a_sequence_that_does_not_fit_its_slot_is_refused(house: House) -> None:
    """As without replays: before anything is written."""
    runner = house.runner(house.captured())
    sequence = replace(house.prompt(CAPACITY, house.slot()), first=1)

    with pytest.raises(ValueError, match="does not fit"):
        runner.forward([sequence])
    assert house.player.replayed == 0


@torch.inference_mode()
def test_sequences_come_out_in_their_order(new_house: Callable[..., House]) -> None:
    """However they were grouped: whole ones and thinned ones in turn, each what it is eagerly."""
    house = new_house(slots=7)
    dropped = [*range(25)]
    sequences = [house.prompt(40, house.slot(), dropped if number % 2 else ()) for number in range(6)]
    check(house, [*sequences, house.guesses(house.prompt(9, house.slot()))])
