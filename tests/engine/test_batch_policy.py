from __future__ import annotations

import pytest

from stillframe.engine.batch_policy import ALONE_EVERY, FORGIVEN, WEIGHT, BatchPolicy
from stillframe.engine.settings import BatchingSettings

PLENTY_S = 1000.0  # that a frame can be left waiting


def batching(times_s: dict[int, float], most: int = 8, hold_ms: float = 10_000) -> BatchPolicy:
    """After one batch of each of these sizes."""
    made = BatchPolicy(BatchingSettings(most, hold_ms))
    for size, took_s in times_s.items():
        made.record(size, took_s)
    return made


def test_times_are_running_means_of_their_size() -> None:
    """The first counts in full, each that follows a fifth; one size says nothing of another."""
    made = batching({1: 1.0, 3: 2.0})
    made.record(1, 2.0)
    made.record(3, 2.0)

    assert made.time_s(1) == pytest.approx(1.0 + WEIGHT * 1.0)
    assert made.time_s(3) == pytest.approx(2.0)


@pytest.mark.parametrize(
    ("known", "size", "expected_s"),
    [({}, 1, 0.0), ({}, 4, 0.0), ({1: 0.5}, 3, 1.5), ({1: 0.5, 2: 0.6}, 4, 1.2), ({1: 0.5, 4: 0.8}, 2, 1.0)],
)
def test_an_unknown_size_takes_what_the_next_smaller_takes_by_the_frame(
    known: dict[int, float], size: int, expected_s: float
) -> None:
    """At worst as long as the frames one by one; nothing is known before the first."""
    assert batching(known).time_s(size) == pytest.approx(expected_s)


def test_no_more_than_most() -> None:
    """However little it costs, and however late it is."""
    made = batching({1: 1.0, 2: 1.0, 3: 1.0}, most=3)

    assert [made.admits(size, PLENTY_S) for size in (1, 2, 3)] == [True, True, False]
    assert not made.admits(3, 0.0)
    assert not batching({}, most=1).admits(1, 0.0)


@pytest.mark.parametrize(("two_s", "joined"), [(1.0, True), (1.9, True), (2.0, True), (2.1, False)])
def test_it_joins_where_all_are_done_no_later_than_in_turn(two_s: float, *, joined: bool) -> None:
    """Two that take 1 s each, one after the other, take 2."""
    assert batching({1: 1.0, 2: two_s}).admits(1, PLENTY_S) is joined


@pytest.mark.parametrize(("three_s", "joined"), [(2.4, True), (2.6, False)])
def test_a_third_is_weighed_against_two_and_one(three_s: float, *, joined: bool) -> None:
    """Two together take 1.5 s, one alone 1."""
    assert batching({1: 1.0, 2: 1.5, 3: three_s}).admits(2, PLENTY_S) is joined


@pytest.mark.parametrize(("hold_ms", "joined"), [(0.0, False), (299.0, False), (301.0, True)])
def test_nobody_is_held_up_for_longer_than_it_may_be(hold_ms: float, *, joined: bool) -> None:
    """Alone a frame takes 1 s, beside another 1.3."""
    assert batching({1: 1.0, 2: 1.3}, hold_ms=hold_ms).admits(1, PLENTY_S) is joined


def test_with_no_patience_frames_go_together_that_cost_no_more_so() -> None:
    """What is done no later than alone holds nobody up; what nobody has measured is not tried."""
    assert batching({1: 1.0, 2: 1.0}, hold_ms=0).admits(1, PLENTY_S)
    assert not batching({1: 1.0}, hold_ms=0).admits(1, PLENTY_S)


@pytest.mark.parametrize(("spare_s", "joined"), [(0.9, True), (1.1, False)])
def test_who_would_be_too_old_joins(spare_s: float, *, joined: bool) -> None:
    """If the one before it takes 1 s, and it has less: though both together are slower than in turn."""
    assert batching({1: 1.0, 2: 2.5}).admits(1, spare_s) is joined


def test_not_even_who_would_be_too_old_holds_others_up_for_too_long() -> None:
    """The limit is the others'."""
    assert not batching({1: 1.0, 2: 2.5}, hold_ms=1400).admits(1, 0.0)


def test_what_is_held_against_a_size_is_forgotten() -> None:
    """With each time that it is declined; never more than makes it as good as turns. Then it is tried again."""
    made = batching({1: 1.0, 2: 3.0})
    times_s = []
    for _ in range(400):
        assert not made.admits(1, PLENTY_S)
        times_s.append(made.time_s(2))
    made.record(1, 1.01)

    assert times_s[0] == pytest.approx(3.0 - FORGIVEN * 1.0)
    assert 2.0 < times_s[-1] < 2.001
    assert made.admits(1, PLENTY_S)


def test_once_in_a_while_one_goes_alone() -> None:
    """What a frame takes alone has to be known as it is now: of 64 batches one is none."""
    made = batching({1: 1.0})
    alone = []
    for number in range(2 * ALONE_EVERY):
        joined = made.admits(1, PLENTY_S)
        made.record(2 if joined else 1, 1.0)
        alone += [] if joined else [number]

    assert alone == [ALONE_EVERY - 1, 2 * ALONE_EVERY - 1]


def test_a_third_is_never_kept_from_two() -> None:
    """When one is to go alone, it is one: those that have joined already wait for no more than they would."""
    made = batching({1: 1.0})
    for _ in range(ALONE_EVERY - 1):
        made.record(2, 1.0)

    assert not made.admits(1, PLENTY_S)
    for _ in range(ALONE_EVERY - 1):
        made.record(2, 1.0)
    assert made.admits(2, PLENTY_S)


@pytest.mark.parametrize(
    ("two_s", "shared", "joined"), [(1.4, True, True), (1.6, True, False), (1.6, False, True), (1.95, False, True)]
)
def test_where_others_use_the_device_a_batch_takes_little_longer(two_s: float, *, shared: bool, joined: bool) -> None:
    """Than one frame alone: they wait for all of it. By itself a caller may have what saves any time."""
    assert batching({1: 1.0, 2: two_s}).admits(1, PLENTY_S, shared=shared) == joined


def test_what_may_be_held_stays_the_most() -> None:
    """Shared or not."""
    assert not batching({1: 1.0, 2: 1.2}, hold_ms=100).admits(1, PLENTY_S, shared=True)
