from __future__ import annotations

from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stillframe.errors import TooMany
from stillframe.web.http.token_bucket import MAX_KEYS
from stillframe.web.middleware.rate_limit import MAX_DEBT_S, RateLimiter

ARM, OTHER = ("arm",), ("other",)


@dataclass
class Hand:
    """A clock that stands until it is turned."""

    now_s: float = 1000.0

    def __call__(self) -> float:
        """What it shows."""
        return self.now_s


@pytest.fixture
def hand() -> Hand:
    """What the buckets fill by."""
    return Hand()


def allowed(rates: RateLimiter, key: tuple[str, ...] = ARM, frames: int = 1) -> int:
    """How many of `frames` at once are let through."""
    count = 0
    for _ in range(frames):
        try:
            rates.acquire(key)
        except TooMany:
            continue
        count += 1
    return count


def wait_told(rates: RateLimiter, key: tuple[str, ...] = ARM) -> float:
    """How long a refused client is told to wait, seconds."""
    with pytest.raises(TooMany) as caught:
        rates.acquire(key)
    assert caught.value.retry_after_s is not None
    return caught.value.retry_after_s


def test_a_burst_passes_and_then_the_rate_holds(hand: Hand) -> None:
    """Two seconds' worth at once; from then on as many as time brings."""
    rates = RateLimiter(10, clock=hand)
    at_once = allowed(rates, frames=100)
    hand.now_s += 1
    later = allowed(rates, frames=100)
    hand.now_s += 3600

    assert (at_once, later, allowed(rates, frames=100)) == (20, 10, 20)


def test_a_refusal_says_what_and_how_long(hand: Hand) -> None:
    """429, which rate, and the wait after which the next frame passes."""
    rates = RateLimiter(4, burst_s=0.5, clock=hand)
    allowed(rates, frames=2)
    with pytest.raises(TooMany, match=r"more than 4 frames a second; wait 0\.25 s\.") as caught:
        rates.acquire(ARM)

    assert (caught.value.status, caught.value.code) == (429, "rate-limited")
    assert caught.value.retry_after_s == pytest.approx(0.25)


def test_refused_frames_cost_nothing(hand: Hand) -> None:
    """Who knocks while it waits does not wait longer."""
    rates = RateLimiter(10, clock=hand)
    allowed(rates, frames=20)
    first = wait_told(rates)
    allowed(rates, frames=1000)

    assert wait_told(rates) == first


def test_one_clients_flood_is_not_anothers(hand: Hand) -> None:
    """Each has its own bucket."""
    rates = RateLimiter(10, clock=hand)
    allowed(rates, frames=1000)

    assert allowed(rates, OTHER, frames=20) == 20


def test_a_slow_rate_lets_the_first_frame_through(hand: Hand) -> None:
    """A bucket that holds less than a frame would never let one out."""
    rates = RateLimiter(0.1, clock=hand)

    assert allowed(rates, frames=3) == 1
    assert wait_told(rates) == pytest.approx(10)


def test_no_rate_is_no_limit_and_nothing_is_kept(hand: Hand) -> None:
    """Null in the configuration."""
    rates = RateLimiter(None, clock=hand)

    assert allowed(rates, frames=10_000) == 10_000
    assert len(rates._buckets) == 0


def test_the_longest_silent_client_is_forgotten_first(hand: Hand) -> None:
    """Memory is bounded, and a flood of new names does not wash out who goes on asking."""
    rates = RateLimiter(1, burst_s=1, clock=hand)
    rates.acquire(ARM)
    for i in range(3 * MAX_KEYS):
        rates.acquire((str(i),))
        if i % 1000 == 0:
            assert allowed(rates) == 0

    assert len(rates._buckets) == MAX_KEYS
    assert allowed(rates) == 0
    assert allowed(rates, ("0",)) == 1


@given(
    frames_per_s=st.floats(0.01, 1e5),
    burst_s=st.floats(0, 10),
    gaps_s=st.lists(st.floats(0, 100), min_size=1, max_size=60),
)
def test_no_pattern_of_asking_gets_more_than_its_share(
    frames_per_s: float, burst_s: float, gaps_s: list[float]
) -> None:
    """Over any stretch from the start: the bucket and what time put in; and a told wait is always enough."""
    hand = Hand()
    rates = RateLimiter(frames_per_s, burst_s=burst_s, clock=hand)
    passed, started_s = 0, hand.now_s
    for gap_s in gaps_s:
        hand.now_s += gap_s
        try:
            rates.acquire(ARM)
        except TooMany as refusal:
            hand.now_s += refusal.retry_after_s or 0
            rates.acquire(ARM)
        passed += 1

    bucket = max(1, frames_per_s * burst_s)
    assert passed <= bucket + frames_per_s * (hand.now_s - started_s) + 1e-3


def test_a_charge_is_owed_for_a_while_at_most(hand: Hand) -> None:
    """However much was charged, a client may ask again within seconds; one that never asked is charged nothing."""
    rates = RateLimiter(1, burst_s=1, clock=hand)
    rates.charge(("stranger",), 100.0)
    assert allowed(rates, ("stranger",)) == 1
    rates.acquire(ARM)
    for _ in range(100):
        rates.charge(ARM, 100.0)
    hand.now_s += MAX_DEBT_S - 1.5
    assert allowed(rates) == 0
    hand.now_s += 1.5

    assert allowed(rates) == 1
