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
from stillframe.models.graphs.graph_runner import Replayer
from stillframe.models.graphs.shapes import recorded
from stillframe.models.llama.history_attention import Recall
from stillframe.models.llama.sequence import Strand
from stillframe.reuse.kv import FrameKV

CAPACITY, ANSWER_ROWS = 40, 4
House = Any  # of conftest.py, which cannot be imported by name


def both(house: House, strands: list[Strand]) -> tuple[list[Tensor], list[Tensor], Tensor, Tensor]:
    """What comes out eagerly and replayed, and what the pool then holds; every row of it that can be read."""
    before = house.pool.storage.clone()
    with torch.inference_mode():
        eager = house.runner().forward(strands)
        left = house.pool.storage[..., :-1, :].clone()
        house.pool.storage.copy_(before)
        replayer = house.replayer()
        house.pool.storage.copy_(before)
        replayed = house.runner(replayer).forward(strands)
    assert sum(replayer.counts.eager.values()) == 0
    assert replayer.counts.replays == house.player.replayed > 0
    return eager, replayed, left, house.pool.storage[..., :-1, :]


def check(house: House, strands: list[Strand]) -> None:
    """Equal up to rounding, hidden rows and the whole pool; nobody else's slot is touched to the bit."""
    before = house.pool.storage[..., :-1, :].clone()
    eager, replayed, left, held = both(house, strands)
    assert [len(own) for own in eager] == [len(own) for own in replayed]
    for one, other in zip(eager, replayed, strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=1e-5)
        assert torch.equal(house.decoder.logits(one).argmax(-1), house.decoder.logits(other).argmax(-1))
    torch.testing.assert_close(left, held, rtol=0, atol=1e-5)
    used = {house.pool.slot_of(strand.kv) for strand in strands}
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
def test_a_replayed_prompt_is_the_eager_one(new_house: Callable[..., House], made: dict[str, Any]) -> None:
    """Random decoders, batches and plans: the same hidden rows, tokens and pool; then the same over the guesses."""
    house = new_house(**made["sizes"])
    strands = [house.prompt(rows, house.slot(), dropped) for rows, dropped in made["prompts"]]

    check(house, strands)
    house.player.replayed = 0
    check(house, [house.guesses(strand) for strand in strands])


def test_stale_rows_that_are_not_finite_reach_nobody(house: House) -> None:
    """Behind a sequence lies what an earlier holder of the slot left, in scratch what anybody did: NaN perhaps."""
    strand, beside = (house.prompt(rows, house.slot(), [3, 4]) for rows in (20, 13))
    for used in (strand, beside):
        house.pool.storage[house.pool.slot_of(used.kv), ..., used.stop :, :] = torch.nan
    check_finite(house, [strand, beside])


def check_finite(house: House, strands: list[Strand]) -> None:
    """The eager pass's numbers."""
    eager, replayed, _, _ = both(house, strands)
    for one, other in zip(eager, replayed, strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=1e-5)


@torch.inference_mode()
def test_a_broken_frame_breaks_no_other(house: House) -> None:
    """NaN in one strand stays in its slot; the pass after it, in the same buffers, knows nothing of it."""
    broken, fine = (house.prompt(20, house.slot()) for _ in range(2))
    expected = house.runner().forward([fine])[0]
    runner = house.runner(house.replayer())
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
    runner = house.runner(house.replayer())
    strand = house.prompt(20, house.slot())
    first = runner.forward([strand])[0]
    kept = first.clone()
    runner.forward([replace(strand, rows=house.rows(20))])

    assert torch.equal(first, kept)


@torch.inference_mode()
def test_a_frame_that_is_whole_does_not_lengthen_the_others(house: House) -> None:
    """Three of twelve rows and one of forty go in two passes where that takes less, and come out in their order."""
    replayer = house.replayer()
    rows = (12, 40, 12, 12)
    strands = [house.prompt(number, house.slot()) for number in rows]
    replayer.replay(strands)
    together = replayer.counts.replays
    many = [house.prompt(12, house.slot()) for _ in range(2)]
    replayer.replay(strands[:1] + many + strands[2:])

    assert together == 1  # for a pass is dear beside rows as few as these
    assert replayer.counts.replays == 3  # five strands: four and one


@torch.inference_mode()
def test_a_tap_hears_the_same(house: House) -> None:
    """The last rows that enter every layer, of a whole prompt and of a thinned one side by side."""
    whole, thinned = house.prompt(30, house.slot()), house.prompt(25, house.slot(), [2, 5, 6, 9])
    layers = house.decoder.config.num_hidden_layers
    heard = []
    for replayer in (None, house.replayer()):
        taps: list[dict[int, Tensor]] = [{}, {}]
        pairs = zip((whole, thinned), taps, strict=True)
        house.runner(replayer).forward([replace(strand, tap=listener(into), listens=7) for strand, into in pairs])
        heard.append(taps)

    assert replayer.counts.replays == 1
    for eager, replayed in zip(*heard, strict=True):
        assert [*replayed] == [*range(layers)]
        for layer, rows in replayed.items():
            torch.testing.assert_close(eager[layer], rows, rtol=0, atol=1e-5)


@torch.inference_mode()
def test_a_tap_may_want_all_of_the_few_rows_that_go_on(house: House) -> None:
    """Fewer than taps may ask for: they are the last of what is kept for taps."""
    forms = recorded(CAPACITY, ANSWER_ROWS, [1], [6], 1)
    replayer = Replayer(house.decoder, house.pool, forms, house.player, listens=8, counts=PassCounts())
    thinned = house.prompt(25, house.slot(), [*range(19)])
    heard: list[dict[int, Tensor]] = [{}, {}]
    for into, asked in zip(heard, (None, replayer), strict=True):
        tap = last_rows(6, into)
        house.runner(asked).forward([replace(thinned, tap=tap, listens=6)])

    assert replayer.counts.replays == 1
    for layer, rows in heard[1].items():
        torch.testing.assert_close(rows, heard[0][layer], rtol=0, atol=1e-5)


@torch.inference_mode()
def test_a_few_rows_that_are_heard_go_where_they_can_be(house: House) -> None:
    """As few as guesses are, they are put where a prompt is."""
    prompt = house.prompt(20, house.slot())
    guesses = replace(house.guesses(prompt), read=1)
    heard: list[dict[int, Tensor]] = [{}, {}]
    for into, asked in zip(heard, (None, house.replayer()), strict=True):
        house.runner(asked).forward([replace(guesses, tap=last_rows(3, into), listens=3)])

    for layer, rows in heard[1].items():
        torch.testing.assert_close(rows, heard[0][layer], rtol=0, atol=1e-5)


def last_rows(count: int, into: dict[int, Tensor]) -> Callable[[int, Tensor], None]:
    """A tap that wants so many of the last rows."""
    return lambda layer, rows: into.update({layer: rows[-count:].clone()})


def listener(into: dict[int, Tensor]) -> Callable[[int, Tensor], None]:
    """A tap that wants the last seven rows."""
    return lambda layer, rows: into.update({layer: rows[-7:].clone()})


def stranger(house: House, strand: Strand) -> Strand:
    """In memory of its own."""
    return replace(strand, kv=FrameKV(house.pool.shape.allocate()))


def late(_: House, strand: Strand) -> Strand:
    """A plan by whose second layer rows leave."""
    return replace(strand, kept={1: torch.arange(5, 20)})


def deaf(_: House, strand: Strand) -> Strand:
    """A tap that does not say what it listens to."""
    return replace(strand, tap=lambda _, __: None)


def curious(_: House, strand: Strand) -> Strand:
    """A tap that wants more rows than are kept."""
    return replace(strand, tap=lambda _, __: None, listens=9)


def read_whole(_: House, strand: Strand) -> Strand:
    """Every row's hidden state is read."""
    return replace(strand, read=None)


def looking_back(_: House, strand: Strand) -> Strand:
    """At older frames."""
    return replace(strand, history=Recall(torch.empty(0), torch.empty(0), torch.empty(0), CAPACITY))


def thinner_than_heard(_: House, strand: Strand) -> Strand:
    """Fewer rows go on than the tap wants to hear."""
    kept = torch.arange(len(strand.rows) - ANSWER_ROWS, len(strand.rows))
    return replace(strand, kept={0: kept}, tap=lambda _, __: None, listens=ANSWER_ROWS + 1)


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
def test_what_was_not_recorded_is_run_eagerly(house: House, odd: Callable[..., Strand], reason: str) -> None:
    """The whole pass, whoever else is in it, to the bit as without; it is counted with its reason."""
    strands = [house.prompt(20, house.slot()), odd(house, house.prompt(20, house.slot()))]
    expected = house.runner().forward(strands)
    replayer = house.replayer()

    assert replayer.replay(strands) is None
    assert all(map(torch.equal, house.runner(replayer).forward(strands), expected))
    assert {reason: 2} == {name: count for name, count in replayer.counts.eager.items() if count}
    assert replayer.counts.replays == house.player.replayed == 0


@torch.inference_mode()
def test_a_pause_gives_way_between_two_layers_still(house: House) -> None:
    """A guarded pass is run eagerly: what was recorded could not be interrupted."""
    replayer = house.replayer()
    runner = house.runner(replayer)
    strand = house.prompt(20, house.slot())
    asked: list[None] = []
    with strand.kv.guarded(lambda: asked.append(None)):
        runner.forward([strand])
    runner.forward([strand])

    assert len(asked) == house.decoder.config.num_hidden_layers
    assert (replayer.counts.eager["guarded"], replayer.counts.replays) == (1, 1)


def test_recording_touches_no_slot(house: House) -> None:
    """Sessions may be there already: what is computed to record lands in scratch."""
    house.slot()
    before = house.pool.storage[..., :-1, :].clone()
    made = house.replayer()

    assert isinstance(made, Replayer)
    assert house.player.recorded == 3 * 3 + 3  # batches times buckets and the whole slot; the guesses'
    assert torch.equal(house.pool.storage[..., :-1, :], before)


@torch.inference_mode()
def test_a_sequence_that_does_not_fit_its_slot_is_refused(house: House) -> None:
    """As without replays: before anything is written."""
    runner = house.runner(house.replayer())
    strand = replace(house.prompt(CAPACITY, house.slot()), first=1)

    with pytest.raises(ValueError, match="does not fit"):
        runner.forward([strand])
    assert house.player.replayed == 0


@torch.inference_mode()
def test_strands_come_out_in_their_order(new_house: Callable[..., House]) -> None:
    """However they were grouped: whole ones and thinned ones in turn, each what it is eagerly."""
    house = new_house(slots=7)
    dropped = [*range(25)]
    strands = [house.prompt(40, house.slot(), dropped if number % 2 else ()) for number in range(6)]
    check(house, [*strands, house.guesses(house.prompt(9, house.slot()))])
