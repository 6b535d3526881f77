from __future__ import annotations

import pytest
from prometheus_client import CollectorRegistry

from stillframe.metrics import Metrics
from stillframe.metrics.sessions import ENDS, STATES
from stillframe.sessions.states import GONE, LIVE

COUNTERS = ("stillframe_sessions_refused", "stillframe_superseded", "stillframe_replayed")


@pytest.fixture
def registry():
    """An empty one."""
    return CollectorRegistry()


@pytest.fixture
def metrics(registry):
    """A daemon's metrics."""
    return Metrics(registry)


def test_its_words_are_the_rooms_words():
    """The metrics know no sessions room, and name its states as it does."""
    assert set(STATES) == set(LIVE)
    assert set(ENDS) == GONE


@pytest.mark.usefixtures("metrics")
def test_every_series_starts_at_zero(registry):
    """A rate over an end that has not occurred yet is 0, not missing."""
    values = [registry.get_sample_value("stillframe_sessions", {"state": state}) for state in STATES]
    values += [registry.get_sample_value("stillframe_session_ends_total", {"reason": reason}) for reason in ENDS]
    values += [registry.get_sample_value(f"{name}_total") for name in COUNTERS]

    assert set(values) == {0}


def test_each_happening_has_its_counter(metrics, registry):
    """What the registry tells its watch is counted once, and nowhere else."""
    for reason in GONE:
        metrics.sessions.ended(reason)
    metrics.sessions.refused()
    for _ in range(2):
        metrics.sessions.superseded()
    for _ in range(3):
        metrics.sessions.replayed()
    ends = [registry.get_sample_value("stillframe_session_ends_total", {"reason": reason}) for reason in ENDS]

    assert ends == [1, 1, 1]
    assert [registry.get_sample_value(f"{name}_total") for name in COUNTERS] == [1, 2, 3]


def test_who_is_here_is_read_at_the_scrape(metrics, registry):
    """States and limit are as the registry says when it is asked; a state that has emptied goes back to 0."""
    metrics.exposition(version="0", ready=True, sessions={"idle": 2, "busy": 1}, sessions_limit=16)
    text = metrics.exposition(version="0", ready=True, sessions={"idle": 0, "busy": 3}, sessions_limit=16).decode()

    assert 'stillframe_sessions{state="idle"} 0.0' in text
    assert 'stillframe_sessions{state="busy"} 3.0' in text
    assert registry.get_sample_value("stillframe_sessions_limit") == 16


def test_a_daemon_that_loads_can_be_scraped(metrics):
    """There is no registry to count and no limit yet; nothing is made up."""
    text = metrics.exposition(version="0", ready=False).decode()

    assert 'stillframe_sessions{state="idle"} 0.0' in text
    assert "stillframe_sessions_limit 0.0" in text
