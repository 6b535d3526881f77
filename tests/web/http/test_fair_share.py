from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from stillframe.web.http.fair_share import SHARE_FACTOR, FairSharePool


def filled(pool: FairSharePool, caller: str) -> int:
    """How many a caller gets before it is refused."""
    count = 0
    while pool.acquire(caller):
        count += 1
    return count


def test_alone_a_caller_gets_three_quarters() -> None:
    """The last quarter stays for others, who get three quarters of that, and so on."""
    pool = FairSharePool(256)

    assert [filled(pool, caller) for caller in ("flood", "second", "third")] == [192, 48, 12]
    assert pool.acquire("robot")
    assert pool.held == 253


def test_what_is_given_back_can_be_taken() -> None:
    """By whichever caller."""
    pool = FairSharePool(4)
    assert filled(pool, "a") == 3
    pool.release("a", 2)

    assert pool.held == 1
    assert not pool.acquire("b", 4)
    assert filled(pool, "b") == 3


def test_who_holds_nothing_is_forgotten() -> None:
    """However many callers come and go."""
    pool = FairSharePool(4)
    for number in range(100):
        assert pool.acquire(f"caller {number}")
        pool.release(f"caller {number}")

    assert len(pool._held) == 0


def test_a_pool_of_one_serves_one() -> None:
    """Whichever comes first."""
    pool = FairSharePool(1)

    assert pool.acquire("a")
    assert not pool.acquire("b")
    pool.release("a")
    assert pool.acquire("b")


@given(
    most=st.integers(1, 50),
    script=st.lists(st.tuples(st.sampled_from("abc"), st.integers(1, 6), st.booleans()), max_size=60),
)
def test_no_more_than_there_is(most: int, script: list[tuple[str, int, bool]]) -> None:
    """Never over the most; who holds nothing is refused only for want of room; others by what they hold."""
    pool, held = FairSharePool(most), dict.fromkeys("abc", 0)
    for caller, amount, give_back in script:
        if give_back and held[caller] >= amount:
            pool.release(caller, amount)
            held[caller] -= amount
            continue
        free = most - sum(held.values())
        took = pool.acquire(caller, amount)
        assert took == (amount <= free and held[caller] < SHARE_FACTOR * free)
        held[caller] += amount * took

        assert pool.held == sum(held.values()) <= most
