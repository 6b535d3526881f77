from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from stillframe_client.jaco2.ceilings import TICK_S
from stillframe_client.jaco2.core.conditions import Freshness
from stillframe_client.jaco2.core.messages import NOTHING
from stillframe_client.jaco2.domain import ArmState, Step, ToolPose
from stillframe_client.jaco2.settings import WatchSettings

HEARD = replace(NOTHING, heartbeat=True)


def report(seq=1, time_s=0.0, x=0.0):
    """What an arm says."""
    return ArmState(seq, time_s, ToolPose(np.array([x, -0.4, 0.3]), np.array([1.0, 0.0, 0.0, 0.0])))


def looks(freshness, seconds, *, begin_s=0.0, inbox=HEARD, arm=report, armed=True, holding=False):
    """Look each tick for so long, at an arm that reports each tick; the last conditions."""
    for k in range(round(seconds / TICK_S) + 1):
        now_s = begin_s + k * TICK_S
        found = freshness.look(inbox, arm(k + 1, now_s), now_s, armed=armed, holding=holding)
    return found


@pytest.fixture
def freshness():
    """With the default times, and a step that is good for long."""
    made = Freshness(WatchSettings())
    made.follow(Step(1, np.zeros(6), 1.0, 0.1, 1e9))
    return made


def test_all_is_well_where_all_is_fresh(freshness):
    """No reason at all."""
    found = looks(freshness, 3.0)
    assert (found.stale, found.broken) == ([], [])


@pytest.mark.parametrize(("seconds", "stale", "broken"), [(0.15, 0, 0), (0.16, 1, 0), (1.0, 1, 0), (1.01, 0, 1)])
def test_silence_counts_from_the_last_heartbeat(freshness, seconds, stale, broken):
    """Hold over 0.15 s, fault over 1 s."""
    looks(freshness, 1.0)
    found = looks(freshness, seconds - TICK_S, begin_s=1.0 + TICK_S, inbox=NOTHING)
    assert (len(found.stale), len(found.broken)) == (stale, broken)


@pytest.mark.parametrize(("seconds", "stale", "broken"), [(0.5, 0, 0), (0.51, 1, 0), (1.5, 1, 0), (1.51, 0, 1)])
def test_a_pose_ages_from_when_it_arrived(freshness, seconds, stale, broken):
    """Hold over 0.5 s, fault over 1.5 s, though the same report is there again and again."""
    found = looks(freshness, seconds, arm=lambda *_: report())
    assert (len(found.stale), len(found.broken)) == (stale, broken)


def test_a_step_is_stale_after_its_deadline_or_when_it_is_dropped(freshness):
    """By then, not at it."""
    freshness.follow(Step(2, np.zeros(6), 1.0, 0.1, 0.5))
    assert not looks(freshness, 0.5).stale
    assert looks(freshness, 0.0, begin_s=0.51).stale == ["no fresh step"]
    freshness.follow(Step(3, np.zeros(6), 1.0, 0.1, 1e9))
    freshness.drop_step()
    assert freshness.step is None
    assert looks(freshness, 0.0, begin_s=0.52).stale == ["no fresh step"]


@pytest.mark.parametrize(("gap_s", "broken"), [(0.25, 0), (0.26, 1)])
def test_a_tick_that_comes_late_is_broken(freshness, gap_s, broken):
    """A streamer that was away for over a quarter of a second, once."""
    looks(freshness, 0.0)
    assert len(looks(freshness, 0.0, begin_s=gap_s, arm=lambda _, now_s: report(2, now_s)).broken) == broken
    assert not looks(freshness, 0.0, begin_s=gap_s + TICK_S, arm=lambda _, now_s: report(3, now_s)).broken


@pytest.mark.parametrize("begin_s", [0.0, 1000.0])
def test_a_hold_that_lasts_is_broken(freshness, begin_s):
    """Fifteen seconds without a break, at any time of the clock; a break begins the count anew."""
    looks(freshness, 10.0, begin_s=begin_s, holding=True)
    assert not looks(freshness, 0.0, begin_s=begin_s + 10.01).broken
    assert not looks(freshness, 15.0, begin_s=begin_s + 10.02, holding=True).broken
    assert looks(freshness, 0.0, begin_s=begin_s + 25.03, holding=True).broken == ["on hold for 15 s"]


def test_a_bridge_that_has_gone_does_not_come_back(freshness):
    """What it says after that counts for nothing."""
    looks(freshness, 0.0, inbox=replace(HEARD, gone=True))
    assert looks(freshness, 0.0, begin_s=TICK_S).broken == ["the bridge is gone"]


def test_a_report_that_is_not_believed_leaves_the_last_one(freshness):
    """A jump while armed is broken each tick that it is there; not armed, it is where the arm was moved to."""
    looks(freshness, 0.1)
    jumped = report(50, 0.11, x=0.3)
    for k in (11, 12):
        assert "jumped" in freshness.look(HEARD, jumped, k * TICK_S, armed=True, holding=False).broken[0]
        assert freshness.report.pose.position_m[0] == 0.0
    assert not freshness.look(HEARD, jumped, 0.13, armed=False, holding=False).broken
    assert freshness.report is jumped


def test_an_older_report_is_passed_over(freshness):
    """It came on a way that took longer: what is known already is newer."""
    looks(freshness, 0.1)
    newest = freshness.report
    found = freshness.look(HEARD, report(50, 0.05), 0.11, armed=True, holding=False)
    assert (found.broken, freshness.report) == ([], newest)


def test_an_arm_that_never_reported_is_stale_and_not_more(freshness):
    """It may still come: nothing moves until then."""
    assert looks(freshness, 3.0, arm=lambda *_: None).stale == ["the arm has not reported"]
