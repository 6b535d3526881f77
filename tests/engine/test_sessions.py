from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stillframe.domain import KeyframeReason
from stillframe.engine.sessions import Session, Sessions

BUDGET = 0.02


@pytest.fixture
def sessions() -> Sessions[str]:
    """At most three."""
    return Sessions(3, BUDGET)


def test_an_episode_goes_on_until_it_is_reset(sessions: Sessions[str]) -> None:
    """Each robot counts its own."""
    first = sessions.episode("a")

    assert sessions.episode("a") == first
    assert [sessions.reset(robot).epoch for robot in "aab"] == [1, 2, 0]
    assert [sessions.episode(robot).epoch for robot in "ab"] == [2, 0]


def test_a_frame_belongs_to_the_episode_of_its_submission(sessions: Sessions[str]) -> None:
    """One that waited while the robot was reset still counts to the old episode, and the next begins the new one."""
    waiting = sessions.episode("a")
    sessions.at(waiting)
    sessions.reset("a")
    after = sessions.episode("a")
    old = sessions.at(waiting)
    assert (old.episode.epoch, old.seq) == (0, 1)
    old.cause = None
    new = sessions.at(after)

    assert (new.episode.epoch, new.seq, new.cause) == (1, 0, KeyframeReason.RESET)


def test_frames_are_counted_as_they_are_computed(sessions: Sessions[str]) -> None:
    """From 0, in each episode; the caution is a robot's, not an episode's."""
    counted = [sessions.at(sessions.episode("a")).seq for _ in range(3)]
    sessions.at(sessions.episode("a")).caution.saw(1.0)
    fresh = sessions.at(sessions.reset("a"))

    assert counted == [0, 1, 2]
    assert fresh.seq == 0
    assert fresh.caution.level > 0
    assert fresh.caution.budget == BUDGET


def test_the_longest_idle_is_surplus(sessions: Sessions[str]) -> None:
    """Three may stay; each frame counts, not only the first."""
    for robot in "abcad":
        sessions.at(sessions.episode(robot))
    gone = [session.episode.session_id for session in sessions.surplus()]

    assert gone == ["b"]
    assert list(sessions.surplus()) == []


def test_a_forgotten_robot_begins_anew(sessions: Sessions[str]) -> None:
    """Epoch 0 again, under a serial of its own; and it is told why its frame is whole."""
    sessions.reset("a")
    old = sessions.reset("a")
    for robot in "bcd":
        sessions.at(old)
        old = sessions.episode(robot)
    sessions.at(old)
    assert [session.episode.session_id for session in sessions.surplus()] == ["a"]
    back = sessions.episode("a")

    assert back.epoch == 0
    assert sessions.at(back).cause is KeyframeReason.EVICTED
    assert sessions.at(sessions.episode("e")).cause is KeyframeReason.FIRST_FRAME


def test_strangers_push_nobody_out(sessions: Sessions[str]) -> None:
    """Ids that only reset, however many, cost the robots that drive neither their episode nor their place."""
    mine = sessions.reset("a")
    sessions.at(mine)
    for number in range(20):
        sessions.reset(f"stranger {number}")

    assert sessions.episode("a") == mine
    assert sessions.reset("stranger 0").epoch == 0


def test_who_has_something_left_to_do_is_found(sessions: Sessions[str]) -> None:
    """The longest idle of those that do; none where none does."""
    known = {robot: sessions.at(sessions.episode(robot)) for robot in "abc"}
    assert sessions.pending() is None
    known["c"].pending = "something"
    known["b"].pending = "something"

    assert sessions.pending() is known["b"]
    sessions.at(sessions.episode("b"))
    assert sessions.pending() is known["c"]
    assert sessions.longest_idle() is None
    assert sessions.holding == 0


@settings(max_examples=100, deadline=None)
@given(st.lists(st.tuples(st.sampled_from("abcde"), st.sampled_from(["episode", "reset"])), max_size=40))
def test_episodes_and_memory_are_bounded(calls: list[tuple[str, str]]) -> None:
    """Whatever is asked: no serial for two episodes, three robots known, the newest never forgotten."""
    sessions: Sessions[str] = Sessions(3, BUDGET)
    serials: dict[int, tuple[str, int]] = {}
    for robot, call in calls:
        episode = getattr(sessions, call)(robot)
        session: Session[str] = sessions.at(episode)
        assert robot not in [gone.episode.session_id for gone in sessions.surplus()]
        assert serials.setdefault(episode.serial, (robot, episode.epoch)) == (robot, episode.epoch)
        assert session.episode == episode


def test_threads_that_reset_at_once_get_different_epochs() -> None:
    """A daemon resets from its web threads while its engine computes."""
    sessions: Sessions[str] = Sessions(8, BUDGET)
    with ThreadPoolExecutor(4) as threads:
        epochs = [episode.epoch for episode in threads.map(sessions.reset, ["a"] * 200)]

    assert sorted(epochs) == [*range(200)]
