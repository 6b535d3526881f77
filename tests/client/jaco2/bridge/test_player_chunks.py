"""Chunks that come late go on where the arm is, and overlaps are blended as is chosen."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from stillframe_client.chunk_plan import BLENDS
from stillframe_client.jaco2 import settings
from stillframe_client.jaco2.bridge.player import Player

STEP_S = 0.1


def chunk(horizon: int, mark: float = 0.0) -> NDArray[np.float64]:
    """Actions [horizon, 7] that say of which chunk they are, and which of it."""
    actions = np.zeros((horizon, 7))
    actions[:, 0], actions[:, 1] = mark, np.arange(horizon)
    return actions


def test_the_settings_name_the_plans_blends() -> None:
    """What may be chosen is what there is."""
    assert settings.BLENDS == BLENDS


def test_what_was_played_since_its_frame_is_done() -> None:
    """Three actions were begun since the frame, though only two and a half steps went by: the fourth is next."""
    player = Player(STEP_S)
    player.take(chunk(8), 0.0, 0.0)
    times = [0.02, 0.13, 0.24]
    assert [player.next(time_s) is not None for time_s in times] == [True] * 3
    player.take(chunk(8, 1.0), 0.01, 0.26)
    due_s, action = player.due_s, player.next(0.35)

    assert due_s == pytest.approx(0.34)  # the third is played to its end
    assert action is not None
    assert (action[0], action[1]) == (1.0, 3.0)


def test_linear_leads_over() -> None:
    """The overlap goes from what was planned to what is said now; then the new chunk goes on."""
    player = Player(STEP_S, "linear")
    player.take(chunk(4), 0.0, 0.0)
    player.next(0.0)
    player.take(chunk(4, 1.0), 0.05, 0.1)
    marks = [float(action[0]) for at in range(4) if (action := player.next(0.1 + at * STEP_S)) is not None]

    assert marks == pytest.approx([0.25, 0.5, 0.75, 1.0])


@pytest.mark.parametrize("blend", BLENDS)
@given(
    answers=st.lists(st.tuples(st.floats(0, 0.5), st.floats(0, 0.6), st.integers(1, 8)), min_size=1, max_size=12),
    look_s=st.floats(0.003, 0.05),
)
def test_blends_keep_the_pace(blend: str, answers: list[tuple[float, float, int]], look_s: float) -> None:
    """Whatever arrives when: never two actions within half a step, and nothing beyond what chunks said."""
    player, now_s, times = Player(STEP_S, blend), 100.0, []
    for number, (after_s, age_s, horizon) in enumerate(answers):
        player.take(chunk(horizon, number), now_s - age_s, now_s)
        end_s = now_s + after_s
        while now_s < end_s:
            action = player.next(now_s)
            if action is not None:
                times.append(now_s)
                assert 0 <= action[0] <= number
            now_s += look_s

    assert all(after - before >= STEP_S / 2 - 1e-9 for before, after in pairwise(times))
