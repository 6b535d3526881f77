from __future__ import annotations

from stillframe.transport.allowances import MOST_KNOWN, Allowance, Allowances


def test_an_allowance_fills_with_time() -> None:
    """Up to what may be at once, however long nothing was taken."""
    allowance = Allowance(2.0, 3.0, now_s=0.0)

    assert [allowance.take(0.0) for _ in range(4)] == [True, True, True, False]
    assert [allowance.take(s) for s in (0.4, 0.5, 0.6, 1.0)] == [False, True, False, True]
    assert [allowance.take(1000.0) for _ in range(4)] == [True, True, True, False]


def test_all_or_nothing() -> None:
    """What is not there whole is not taken in part."""
    allowance = Allowance(1.0, 3.0, now_s=0.0)

    assert not allowance.take(0.0, 3.5)
    assert allowance.take(0.0, 3.0)
    assert allowance.left(1.0) == 1.0


def test_what_was_used_is_owed() -> None:
    """More than there was: it has to fill up again before anything can be taken."""
    allowance = Allowance(1.0, 3.0, now_s=0.0)
    allowance.owe(5.0)

    assert not allowance.take(2.5)
    assert allowance.take(3.0)


def test_each_key_has_its_own() -> None:
    """One that has taken all is nothing to another; a flood of keys does not wash out those that go on."""
    now_s = [0.0]
    allowances = Allowances(1.0, 2.0, lambda: now_s[0])
    assert allowances.of("a").take(0.0, 2.0)
    assert not allowances.of("a").take(0.0)
    assert allowances.of("b").take(0.0)
    for number in range(3 * MOST_KNOWN):
        allowances.of(number)
        assert not allowances.of("a").take(0.0)
    assert allowances.of("b").take(0.0, 2.0)  # it was forgotten, and has a full one

    assert len(allowances._known) == MOST_KNOWN


def test_a_key_that_is_no_more_is_forgotten() -> None:
    """One that comes under it later begins with a full one."""
    allowances = Allowances(1.0, 2.0, lambda: 0.0)
    allowances.of("a").owe(5.0)
    allowances.forget("a")
    allowances.forget("stranger")

    assert allowances.of("a").left(0.0) == 2.0


def test_without_a_bound_nothing_runs_out() -> None:
    """Any number a second."""
    allowance = Allowance(float("inf"), 3.0, now_s=0.0)
    assert allowance.take(0.0, 3.0)

    assert allowance.take(1e-9, 3.0)
