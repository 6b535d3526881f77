from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from stillframe.web.http.shares import GENEROSITY, Shares


def filled(shares: Shares, caller: str) -> int:
    """How many a caller gets before it is refused."""
    count = 0
    while shares.take(caller):
        count += 1
    return count


def test_alone_a_caller_gets_three_quarters() -> None:
    """The last quarter stays for others, who get three quarters of that, and so on."""
    shares = Shares(256)

    assert [filled(shares, caller) for caller in ("flood", "second", "third")] == [192, 48, 12]
    assert shares.take("robot")
    assert shares.held == 253


def test_what_is_given_back_can_be_taken() -> None:
    """By whichever caller."""
    shares = Shares(4)
    assert filled(shares, "a") == 3
    shares.give_back("a", 2)

    assert shares.held == 1
    assert not shares.take("b", 4)
    assert filled(shares, "b") == 3


def test_who_holds_nothing_is_forgotten() -> None:
    """However many callers come and go."""
    shares = Shares(4)
    for number in range(100):
        assert shares.take(f"caller {number}")
        shares.give_back(f"caller {number}")

    assert len(shares._held) == 0


def test_a_pool_of_one_serves_one() -> None:
    """Whichever comes first."""
    shares = Shares(1)

    assert shares.take("a")
    assert not shares.take("b")
    shares.give_back("a")
    assert shares.take("b")


@given(
    most=st.integers(1, 50),
    script=st.lists(st.tuples(st.sampled_from("abc"), st.integers(1, 6), st.booleans()), max_size=60),
)
def test_no_more_than_there_is(most: int, script: list[tuple[str, int, bool]]) -> None:
    """Never over the most; who holds nothing is refused only for want of room; others by what they hold."""
    shares, held = Shares(most), dict.fromkeys("abc", 0)
    for caller, amount, give_back in script:
        if give_back and held[caller] >= amount:
            shares.give_back(caller, amount)
            held[caller] -= amount
            continue
        free = most - sum(held.values())
        took = shares.take(caller, amount)
        assert took == (amount <= free and held[caller] < GENEROSITY * free)
        held[caller] += amount * took

        assert shares.held == sum(held.values()) <= most
