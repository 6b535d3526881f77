"""Totals from Prometheus' text."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from prometheus_client import CollectorRegistry

from stillframe.errors import Overloaded
from stillframe.metrics import Metrics
from stillframe.tools.top.metrics import read_totals
from stillframe.tools.top.snapshot import Totals


def test_totals_are_those_that_the_daemon_counts() -> None:
    """Written by its own metrics: how frames ended, problems by code, sessions refused, streams."""
    metrics = Metrics(CollectorRegistry())
    for _ in range(2):
        with metrics.frame("/v1/act"):
            pass
    with pytest.raises(Overloaded), metrics.frame("/v1/act"):
        raise Overloaded("overloaded", "full")
    metrics.sessions.refused()
    found = read_totals(metrics.exposition(version="1", ready=True, connections=3).decode(), 12.5)

    assert (found.at_s, found.answered, found.streams, found.sessions_refused) == (12.5, 2, 3, 1)
    assert found.frames["refused"] == 1
    assert found.rejected == {"overloaded": 1}
    assert (found.queued, found.rate_limited, found.history_bytes) == (0, 0, 0)


@pytest.mark.parametrize("text", ["", "# nothing\n", "{{{", "another_daemon_up 1\n"])
def test_what_is_no_daemons_is_refused(text: str) -> None:
    """Text of another program is not shown as zeros."""
    with pytest.raises(ValueError, match=r"line|series|label"):
        read_totals(text, 0.0)


def test_a_rate_is_what_came_between_two_readings(totals: Callable[..., Totals]) -> None:
    """Late answers are answers; without an earlier reading, or where the daemon began anew, there is none."""
    before, now = totals(10.0), totals(14.0, frames={"answered": 95.0, "late": 13.0, "refused": 7.0})

    assert now.answered_per_s(before) == 2.0
    assert now.answered_per_s(None) is None
    assert now.answered_per_s(now) is None
    assert before.answered_per_s(totals(9.0, frames={"answered": 1000.0})) is None
