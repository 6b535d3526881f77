from __future__ import annotations

import numpy as np
import pytest

from stillframe_client.sim import COLOURS
from stillframe_client.sim.cues import CUE_STEPS, GAP_STEPS, VARIANTS, Cueing, Flash, Schedule

MEANT = {1: ("red",), 2: ("blue", "red")}


def drawn(variant: str, seed: int, delay: int = 16) -> Schedule:
    """The schedule of a seed."""
    cueing = Cueing.of(variant, delay)
    return Schedule.drawn(np.random.default_rng(seed), cueing, MEANT[cueing.variant.cues])


@pytest.mark.parametrize("variant", VARIANTS)
def test_the_marked_flashes_are_those_meant_in_their_order(variant: str) -> None:
    """Decoys are the other colours, each once and unmarked, and only where there are any."""
    rules = VARIANTS[variant]
    for seed in range(30):
        flashes = drawn(variant, seed).flashes
        decoys = {flash.colour for flash in flashes if not flash.marked}

        assert tuple(flash.colour for flash in flashes if flash.marked) == MEANT[rules.cues]
        assert decoys == (set(COLOURS) - set(MEANT[rules.cues]) if rules.decoys else set())
        assert len(flashes) == (len(COLOURS) if rules.decoys else rules.cues)
        assert all(flash.lamp < rules.lamps for flash in flashes)


def test_place_and_lamp_of_a_flash_tell_nothing() -> None:
    """With decoys the cue comes first, between or last, at any lamp, in a look as in another."""
    flashes = [drawn("distractor", seed).flashes for seed in range(60)]
    marks = [[flash.marked for flash in each] for each in flashes]

    assert {each.index(True) for each in marks} == {0, 1, 2}
    assert {flash.lamp for each in flashes for flash in each if flash.marked} == {0, 1, 2}
    assert {flash.lamp for each in flashes for flash in each if not flash.marked} == {0, 1, 2}


def test_flashes_follow_each_other_with_a_gap() -> None:
    """Six steps of the first, four of nothing, six of the second, and nothing ever after; then the delay."""
    schedule = drawn("ordered", seed=0, delay=7)
    first, second = schedule.flashes
    shown: list[Flash | None] = [first] * CUE_STEPS + [None] * GAP_STEPS + [second] * CUE_STEPS + [None] * 100

    assert [schedule.at(step) for step in range(len(shown))] == shown
    assert schedule.frozen_steps == 2 * CUE_STEPS + GAP_STEPS + 7


@pytest.mark.parametrize("variant", VARIANTS)
def test_the_seed_draws_the_schedule(variant: str) -> None:
    """The same seed gives the same one; where there is a choice, seeds differ."""
    schedules = {drawn(variant, seed) for seed in range(20)}

    assert drawn(variant, 3) == drawn(variant, 3)
    assert len(schedules) > 1 or not VARIANTS[variant].decoys


def test_without_flashes_nobody_is_frozen() -> None:
    """An episode with nothing to remember."""
    assert (Schedule().frozen_steps, Schedule().at(0)) == (0, None)


def test_a_cueing_has_defaults_and_no_others() -> None:
    """Nothing said: simple and 16 steps. A word or a number that makes no sense is named."""
    assert Cueing.of(None, None) == Cueing(VARIANTS["simple"], 16)
    assert Cueing.of("ordered", 0).delay == 0
    with pytest.raises(ValueError, match="unknown variant 'hard'; expected one of simple, ordered"):
        Cueing.of("hard", None)
    with pytest.raises(ValueError, match="delay is -1; expected at least 0 steps"):
        Cueing.of(None, -1)
