"""What is kept of sessions' frames for those that watch, and what is not."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from stillframe.domain import ActionChunk, CacheReport, Observation, SessionRef, SlackReport, Step, StepReport
from stillframe.testing import ManualClock
from stillframe.testing.policy import frame_views
from stillframe.web.live.feed import MOST_SESSIONS, LiveFeed
from stillframe.web.live.history import ENTRIES_KEPT

ARM = SessionRef("arm", serial=1)


def step(reuse: float = 0.5, total_ms: float = 20.0) -> Step:
    """A delta frame's answer."""
    report = StepReport({"queue": 1.0, "prefill": total_ms - 1.0}, 2, CacheReport("adaptive", None, reuse, 1, 2, 3, 4))
    return Step(ActionChunk(np.zeros((1, 7)), "robot"), report)


def views() -> Any:
    """What one camera saw."""
    return frame_views(Observation({"front": np.zeros((8, 8, 3), np.uint8)}, "go"), keyframe=False)


@pytest.fixture
def clock() -> ManualClock:
    """Unix time, set by hand."""
    return ManualClock(1000.0)


@pytest.fixture
def feed(clock: ManualClock) -> LiveFeed:
    """An empty feed."""
    return LiveFeed(clock)


def answer(feed: LiveFeed, session: SessionRef = ARM, **how: Any) -> None:
    """One frame, as the engine tells of it: with views only where they are wanted."""
    feed.answered(session, step(**how), views() if feed.wants_views(session) else None)


def test_no_picture_is_asked_for_until_a_watcher_reads(feed: LiveFeed) -> None:
    """Figures are kept; the engine is asked for nothing more."""
    answer(feed)
    wanted = feed.wants_views(ARM)
    reading = feed.read("arm", 1, 0)

    assert not wanted
    assert len(reading.entries) == 1
    assert reading.newest is None
    assert feed.wants_views(ARM)


def test_a_reading_asks_for_one_picture(feed: LiveFeed) -> None:
    """The next frame's, not those after it: a slow watcher slows what is made for it."""
    feed.read("arm", 1, 0)
    asked = []
    for _ in range(3):
        asked.append(feed.wants_views(ARM))
        answer(feed)
    reading = feed.read("arm", 1, 0)

    assert asked == [True, False, False]
    assert reading.newest is not None
    assert (reading.newest.number, reading.count) == (1, 3)


def test_a_reader_goes_on_where_it_was(feed: LiveFeed) -> None:
    """Each entry comes once, oldest first, with its time."""
    answer(feed)
    first = feed.read("arm", 1, 0)
    for _ in range(2):
        answer(feed)
    then = feed.read("arm", 1, first.count)

    assert [entry.number for entry in first.entries] == [1]
    assert [entry.number for entry in then.entries] == [2, 3]
    assert feed.read("arm", 1, then.count).entries == []
    assert first.entries[0].at_s == 1000.0


def test_only_the_last_entries_are_kept(feed: LiveFeed) -> None:
    """A watcher that read long ago gets those, and no more."""
    for _ in range(ENTRIES_KEPT + 7):
        answer(feed)
    reading = feed.read("arm", 1, 2)

    assert len(reading.entries) == ENTRIES_KEPT
    assert (reading.entries[0].number, reading.count) == (8, ENTRIES_KEPT + 7)


def test_a_refresh_is_told_with_its_frame(feed: LiveFeed) -> None:
    """One that measured nothing is not."""
    feed.refreshed(SessionRef("arm", epoch=2, seq=5, serial=1), SlackReport(20.0, drift=0.25))
    feed.refreshed(ARM, SlackReport(3.0, drift=None))
    (entry,) = feed.read("arm", 1, 0).entries

    assert (entry.epoch, entry.seq, entry.content) == (2, 5, SlackReport(20.0, drift=0.25))


def test_a_new_session_of_an_old_name_begins_anew(feed: LiveFeed) -> None:
    """What the old one left is not shown as its own, and its late frame is left out."""
    feed.read("arm", 1, 0)
    answer(feed)
    later = SessionRef("arm", serial=2)
    answer(feed, later)
    answer(feed)
    reading = feed.read("arm", 2, 0)

    assert len(reading.entries) == 1
    assert reading.newest is None
    assert feed.read("arm", 1, 0).entries == ()


def test_a_session_asks_for_its_own_pictures_only(feed: LiveFeed) -> None:
    """To watch one arm costs the other nothing."""
    feed.read("arm", 1, 0)

    assert not feed.wants_views(SessionRef("other", serial=2))
    assert not feed.wants_views(SessionRef("arm", serial=2))


def test_the_longest_idle_session_is_forgotten_first(feed: LiveFeed) -> None:
    """What is kept is bounded, whatever the number of robots; one that is watched is not idle."""
    answer(feed)
    for number in range(MOST_SESSIONS):
        feed.read("arm", 1, 0)
        answer(feed, SessionRef(f"r{number}", serial=2 + number))

    assert feed.summary("r0") is None
    assert feed.summary("arm") is not None
    assert feed.summary(f"r{MOST_SESSIONS - 1}") is not None


def test_pictures_go_with_the_last_watcher(feed: LiveFeed) -> None:
    """None is kept, none is asked for; figures stay."""
    feed.read("arm", 1, 0)
    answer(feed)
    feed.read("arm", 1, 0)
    feed.release_pictures()
    wanted = feed.wants_views(ARM)
    reading = feed.read("arm", 1, 0)

    assert not wanted
    assert reading.newest is None
    assert reading.count == 1


def test_a_summary_is_of_the_last_frames(feed: LiveFeed, clock: ManualClock) -> None:
    """Mean reuse, median time, and the rate: between frames, and falling once there are none."""
    for reuse, total_ms in ((0.0, 10.0), (0.5, 90.0), (1.0, 20.0)):
        answer(feed, reuse=reuse, total_ms=total_ms)
        feed.refreshed(ARM, SlackReport(1.0, drift=0.0))
        clock.advance(0.25)
    busy = feed.summary("arm")
    clock.advance(10)
    idle = feed.summary("arm")

    assert busy == {"reuse_ratio": 0.5, "total_ms": 20.0, "frames_per_s": 4.0}
    assert idle is not None
    assert idle["frames_per_s"] == 0
    assert feed.summary("other") is None


def test_the_newest_frame_comes_with_the_last_ones_medians(feed: LiveFeed, clock: ManualClock) -> None:
    """By stage, of frames only; the drift is the newest refresh's, and the frame is as old as the clock says."""
    none = feed.latest("arm")
    for total_ms in (10.0, 100.0, 20.0):
        answer(feed, total_ms=total_ms)
    feed.refreshed(ARM, SlackReport(20.0, drift=0.25))
    feed.refreshed(ARM, SlackReport(20.0, drift=0.125))
    clock.now_s += 2.0
    latest = feed.latest("arm")

    assert none is None
    assert latest is not None
    assert (latest.entry.number, latest.age_s, latest.drift) == (3, 2.0, 0.125)
    assert latest.stages_ms == {"queue": 1.0, "prefill": 19.0}


def test_a_session_that_was_only_refreshed_has_no_newest_frame(feed: LiveFeed) -> None:
    """Its frames were forgotten, or there were none: there is nothing to show."""
    feed.refreshed(ARM, SlackReport(20.0, drift=0.25))

    assert feed.latest("arm") is None
