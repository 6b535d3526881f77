from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stillframe_client.jaco2.cameras.base import StaleFrame
from stillframe_client.jaco2.cameras.freshness import Arrival, arrived, check_fresh
from stillframe_client.jaco2.settings import CameraSettings

STRICT = CameraSettings(age_s=0.3, frozen_s=1.0)


def follow(values: list[tuple[float, int]], *, look: bool = True) -> Arrival:
    """The last of these pictures, each with its arrival and the one value that fills it."""
    newest = None
    for seq, (now_s, value) in enumerate(values, 1):
        newest = arrived(newest, np.full((4, 4, 3), value, np.uint8), seq, now_s, look=look)
    assert newest
    return newest


def test_the_time_of_the_first_of_equal_pictures_is_kept() -> None:
    """However many equal ones follow; another one, and the first one again after it, begin anew."""
    assert follow([(1, 7), (2, 7), (3, 7)]).same_since_s == 1
    assert follow([(1, 7), (2, 8), (3, 8)]).same_since_s == 2
    assert follow([(1, 7), (2, 8), (3, 7)]).same_since_s == 3


def test_bytes_are_not_looked_at_where_that_is_not_asked() -> None:
    """No digest is taken, and no picture counts as equal."""
    newest = follow([(1, 7), (2, 7)], look=False)

    assert newest.digest is None
    assert newest.same_since_s == 2


def test_a_turned_view_is_told_by_its_pixels(noise: Any) -> None:
    """Pictures that are not contiguous are compared by what they show."""
    upright, turned = (arrived(None, view, 1, 1.0, look=True).digest for view in (noise(1), noise(1)[::-1]))
    again = arrived(None, noise(1)[::-1][::-1], 1, 1.0, look=True).digest

    assert upright == again != turned


def test_frozen_is_judged_by_arrivals() -> None:
    """A picture that came once and then grew old is old, not frozen: the text says which."""
    with pytest.raises(StaleFrame, match=r"is 4\.00 s old"):
        check_fresh(follow([(1, 7)]), 5.0, STRICT)
    with pytest.raises(StaleFrame, match=r"frozen: the same bytes came for 4\.0 s; .* frozen_s = 0"):
        check_fresh(follow([(1, 7), (5, 7)]), 5.0, STRICT)


@given(gaps_s=st.lists(st.floats(0, 1), min_size=1, max_size=20), late_s=st.floats(0, 2))
def test_what_passes_is_young_and_moves(gaps_s: list[float], late_s: float) -> None:
    """For any arrivals of one and the same picture: it passes exactly where its age and its standing are in bounds."""
    times_s = np.cumsum(gaps_s).tolist()
    newest = follow([(now_s, 7) for now_s in times_s])
    fits = times_s[-1] + late_s - times_s[-1] <= 0.3 and times_s[-1] - times_s[0] < 1.0
    try:
        check_fresh(newest, times_s[-1] + late_s, STRICT)
    except StaleFrame:
        assert not fits
    else:
        assert fits
