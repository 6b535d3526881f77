from __future__ import annotations

import bisect
import itertools
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stillframe_client.jaco2.ceilings import TICK_S
from stillframe_client.jaco2.streamer.pacing import SLACK_S, Beat, MonotonicClock

NEAREST_S = 0.0098
ROUNDING = 1e-9
# How long a sleep lasts beyond what was asked for, and how long a tick's work takes.
LATE = st.one_of(st.just(0.0), st.floats(0, 0.0005), st.floats(0, 0.02), st.floats(0, 3))
WORK = st.one_of(st.just(0.0), st.floats(0, 0.002), st.floats(0, 0.05))


class Clock:
    """Moves when it is slept on, or by hand."""

    def __init__(self, late=0.0):
        self.time_s = 1000.0
        self.late = late

    def now_s(self):
        """The time."""
        return self.time_s

    def sleep_until(self, time_s):
        """Wake up late."""
        self.time_s = max(self.time_s, time_s) + self.late


def ticks(days):
    """When the ticks are, of a beat whose sleeps are late and whose work takes time: pairs of both."""
    clock = Clock()
    beat, at = Beat(clock), []
    for late_s, work_s in days:
        clock.late = late_s
        beat.wait()
        at.append(clock.time_s)
        clock.time_s += work_s
    return at


@given(st.lists(st.tuples(LATE, WORK), min_size=2, max_size=400))
def test_no_two_ticks_are_near_each_other_however_late_they_are(days):
    """Never under 9.8 ms apart, never over 101 within a second, and over any time no more than the arm plays."""
    at = ticks(days)
    assert min(after - before for before, after in itertools.pairwise(at)) >= NEAREST_S - ROUNDING
    assert max(bisect.bisect_right(at, begin + 1.0) - k for k, begin in enumerate(at)) <= 101
    longest = max(k - (then - at[0]) / TICK_S for k, then in enumerate(at))
    assert longest <= SLACK_S / TICK_S + 1e-6


def test_after_a_suspension_nothing_is_caught_up():
    """A second away: the next tick at once, and from then on one each 10 ms."""
    at = ticks([(0.0, 0.0)] * 10 + [(1.0, 0.0)] + [(0.0, 0.0)] * 50)
    gaps = [round(after - before, 4) for before, after in itertools.pairwise(at)]
    assert gaps == [0.01] * 9 + [1.01] + [0.0098] + [0.01] * 49


def test_small_lateness_does_not_add_up():
    """Sleeps that are 0.1 ms late keep the rate: a thousand ticks take ten seconds."""
    at = ticks([(0.0001, 0.001)] * 1001)
    assert at[-1] - at[0] == pytest.approx(10.0, abs=0.001)


def test_the_lateness_is_told():
    """In seconds; the first tick is never late."""
    clock = Clock()
    beat = Beat(clock)
    assert beat.wait() == 0
    clock.late = 0.004
    assert beat.wait() == pytest.approx(0.004)
    clock.late = 0.0
    clock.time_s += 0.5
    assert beat.wait() == pytest.approx(0.4902)


def test_the_machines_clock_never_wakes_early():
    """It sleeps for what is left, and not at all for what is past."""
    slept = []

    def sleep(seconds):
        slept.append(seconds)
        time.sleep(seconds)

    clock = MonotonicClock(sleep)
    until_s = clock.now_s() + 0.2  # more than a loaded machine may take this thread's turn away
    clock.sleep_until(until_s)
    assert clock.now_s() >= until_s
    clock.sleep_until(until_s)
    assert len(slept) == 1
