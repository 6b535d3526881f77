"""The streamer at 100 Hz while the machine is busy: late where it must be, never in a burst, nothing caught up."""

from __future__ import annotations

import bisect
import contextlib
import itertools
import os
import subprocess
import sys
import time

import pytest

from stillframe_client.jaco2.ceilings import TICK_S

pytestmark = pytest.mark.process

NEAREST_S = 0.0098
ROUNDING = 1e-9


@contextlib.contextmanager
def burning(processes):
    """So many processes that compute without end."""
    started = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(processes)]
    try:
        yield
    finally:
        for each in started:
            each.kill()
            each.wait(20)


@pytest.mark.parametrize("seconds", [5, pytest.param(60, marks=pytest.mark.slow)])
def test_a_busy_machine_makes_ticks_late_and_never_bursts(started, seconds, capsys):
    """All other cores burn: no two ticks under 9.8 ms apart, no more than 101 within a second, none caught up."""
    streamer = started()
    streamer.until_running()
    with burning(max(1, (os.cpu_count() or 2) - 1)):
        begin_s = time.monotonic()
        time.sleep(seconds)
        end_s = time.monotonic()
    streamer.hang_up()
    log = streamer.log()
    assert log.ends_well()
    ticks = [tick for tick in log.ticks if begin_s <= tick["t"] <= end_s]
    at = [tick["t"] for tick in ticks]
    assert at[-1] - at[0] > seconds / 2
    assert min(after - before for before, after in itertools.pairwise(at)) >= NEAREST_S - ROUNDING
    assert max(bisect.bisect_right(at, begin + 1.0) - k for k, begin in enumerate(at)) <= 101
    assert len(at) <= (at[-1] - at[0]) / TICK_S + 2
    late = sorted(tick["late_ms"] for tick in ticks)
    with capsys.disabled():
        print(f"\n{len(at)} ticks in {at[-1] - at[0]:.2f} s, late by", end="")  # noqa: T201 -- what it measured
        for share in (50, 90, 99, 100):
            print(f" p{share} {late[min(len(late) * share // 100, len(late) - 1)]:.2f} ms", end="")  # noqa: T201
        print()  # noqa: T201
