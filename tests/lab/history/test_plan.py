from __future__ import annotations

from dataclasses import replace

import pytest

from stillframe.history.checkpoint import HistoryConfig
from stillframe.history.settings import HistorySettings
from stillframe_lab.history.arms import ARMS, BOUNDED, FULL, OFF, WINDOW_FRAMES, chunk_bytes, history_of
from stillframe_lab.history.plan import (
    BUDGET,
    BUDGETS,
    DELAYS,
    HARD,
    LONG,
    MIDDLE,
    PROOFS,
    TELLING,
    HistoryPlan,
    origin_of,
)

CONFIG = HistoryConfig(4, 4, 32, 256, 2, (0, 1), 8, 64)
KNOBS = HistorySettings(enabled=False, window_frames=9, threshold=0.5, decay=0.9, budget_mib=3.0)


def test_what_tells_most_comes_first(plan: HistoryPlan) -> None:
    """The proof, then all arms of the hard variant at the longest delay; every cell once, on the same seeds."""
    cells, proof = [*plan.cells()], [*plan.proof()]
    hard = cells[len(proof) : len(proof) + len(ARMS)]

    assert cells[: len(proof)] == proof
    assert {cell.arm for cell in hard} == set(ARMS)
    assert {(cell.variant, cell.delay) for cell in hard} == {(HARD, LONG)}
    assert len({cell.name for cell in cells}) == len({cell.key for cell in cells}) == len(cells)
    assert {(cell.seed, cell.episodes) for cell in cells[len(proof) :]} == {(plan.seed, plan.episodes)}


def test_the_proof_has_every_arm_in_equal_bytes(plan: HistoryPlan) -> None:
    """Of each variant in which the policy itself hardly fails, in more episodes; those that tell most of both first."""
    proof = [*plan.proof()]

    assert {(cell.arm, cell.variant) for cell in proof} == {(arm, variant) for arm in ARMS for variant in PROOFS}
    assert {(cell.delay, cell.seed, cell.episodes) for cell in proof} == {(LONG, plan.seed, plan.proof_episodes)}
    assert {cell.chunks for cell in proof if cell.arm in BOUNDED} == {BUDGET}
    assert {cell.arm for cell in proof[: len(TELLING) * len(PROOFS)]} == set(TELLING)


def test_arms_are_compared_in_equal_bytes(plan: HistoryPlan) -> None:
    """Each bounded arm at each budget at one delay, and all arms at each delay with one budget."""
    cells = [cell for cell in plan.cells() if cell.variant == HARD]
    budgets = {(cell.arm, cell.chunks) for cell in cells if cell.delay == MIDDLE and cell.chunks}
    delays = {(cell.arm, cell.delay) for cell in cells if cell.chunks in (None, BUDGET)}

    assert budgets == {(arm, chunks) for arm in BOUNDED for chunks in BUDGETS}
    assert delays == {(arm, delay) for arm in ARMS for delay in DELAYS}


@pytest.mark.parametrize("variant", ["simple", "distractor", "ordered"])
def test_a_variant_that_is_compared_anyway_is_played_once(plan: HistoryPlan, variant: str) -> None:
    """It may be the one that all arms play."""
    names = [cell.name for cell in replace(plan, variant=variant).cells()]

    assert len(set(names)) == len(names)


def test_bytes_are_those_of_whole_chunks() -> None:
    """Whatever the deployment allows; nothing goes for another reason, and its decay stays."""
    settings = {arm: history_of(arm, 4, CONFIG, KNOBS) for arm in BOUNDED}
    full = history_of(FULL, None, CONFIG, KNOBS)

    assert chunk_bytes(CONFIG) == 8192
    assert {(one.budget_mib or 0) * 2**20 for one in settings.values()} == {4 * 8192}
    assert {one.window_frames for one in settings.values()} == {WINDOW_FRAMES}
    assert {(one.threshold, one.decay, one.enabled) for one in (*settings.values(), full)} == {(0.0, 0.9, True)}
    assert (full.budget_mib, full.window_frames, full.gate) == (None, 0, "recency")
    assert not history_of(OFF, None, CONFIG, KNOBS).enabled


def test_a_result_depends_on_all_that_made_it(plan: HistoryPlan) -> None:
    """Another seed, knob or tensor is another origin."""
    cell = next(plan.cells())
    others = [replace(cell, seed=1), replace(cell, history=KNOBS), replace(cell, chunks=3)]

    assert all(origin_of(other, "a") != origin_of(cell, "a") for other in others)
    assert origin_of(cell, "a") != origin_of(cell, "b")
