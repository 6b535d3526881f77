from __future__ import annotations

import pytest

from stillframe.stopwatch import Stopwatch


def test_laps_add_up_to_the_total() -> None:
    """Each lap counts from the one before it, the total from the start, in milliseconds."""
    watch = Stopwatch(iter([10.0, 10.25, 11.0, 11.5]).__next__)
    watch.lap("first")
    watch.lap("second")

    assert list(watch.laps_ms.items()) == [("first", 250.0), ("second", 750.0)]
    assert watch.total_ms == 1500.0


def test_a_lap_waits_before_it_looks_at_the_clock() -> None:
    """What a stage only asked for is done by the end of its lap, and its time is in that lap."""
    now_s = 0.0

    def work_on() -> None:
        nonlocal now_s
        now_s += 0.125

    watch = Stopwatch(lambda: now_s, wait=work_on)
    watch.lap("vision")

    assert watch.laps_ms == {"vision": pytest.approx(125.0)}
