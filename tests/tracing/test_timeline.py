"""When a frame was in which stage, out of durations that two threads measured."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stillframe.tracing import timeline

DURATIONS = st.lists(st.floats(0, 1e4), max_size=8)


def named(durations_ms: list[float], prefix: str) -> dict[str, float]:
    """Stages by name."""
    return {f"{prefix}{at}": duration for at, duration in enumerate(durations_ms)}


@given(arrival=DURATIONS, between_ms=st.floats(0, 1e3), engine=DURATIONS, answered_ms=st.floats(0, 1e5))
def test_stages_follow_one_another(
    arrival: list[float], between_ms: float, engine: list[float], answered_ms: float
) -> None:
    """Whatever was measured: each is there once, none begins before the last one's end, none ends after the answer."""
    submitted_ms = sum(arrival) + between_ms
    stages = [*timeline(named(arrival, "a"), submitted_ms, named(engine, "e"), answered_ms)]

    assert [stage.name for stage in stages] == [*named(arrival, "a"), *named(engine, "e")]
    assert all(0 <= stage.begin_s <= stage.end_s <= answered_ms / 1e3 for stage in stages)
    assert all(before.end_s <= after.begin_s for before, after in pairwise(stages))


def test_stages_last_as_long_as_was_measured() -> None:
    """Those of the engine from when the frame was handed to it, in seconds."""
    receive, queue, vision = timeline({"receive": 5.0}, 8.0, {"queue": 10.0, "vision": 20.0}, 50.0)

    assert (receive.begin_s, receive.end_s) == (0.0, 0.005)
    assert (queue.begin_s, queue.end_s) == (0.008, 0.018)
    assert (vision.begin_s, vision.end_s) == pytest.approx((0.018, 0.038))
