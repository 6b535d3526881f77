from __future__ import annotations

from stillframe.web.http.token_bucket import MAX_KEYS, TokenBucket, TokenBuckets


def test_a_bucket_fills_with_time() -> None:
    """Up to what may be at once, however long nothing was taken."""
    bucket = TokenBucket(2.0, 3.0, now_s=0.0)

    assert [bucket.take(0.0) for _ in range(4)] == [True, True, True, False]
    assert [bucket.take(s) for s in (0.4, 0.5, 0.6, 1.0)] == [False, True, False, True]
    assert [bucket.take(1000.0) for _ in range(4)] == [True, True, True, False]


def test_all_or_nothing() -> None:
    """What is not there whole is not taken in part."""
    bucket = TokenBucket(1.0, 3.0, now_s=0.0)

    assert not bucket.take(0.0, 3.5)
    assert bucket.take(0.0, 3.0)
    assert bucket.available(1.0) == 1.0


def test_what_was_used_is_owed() -> None:
    """More than there was: it has to fill up again before anything can be taken."""
    bucket = TokenBucket(1.0, 3.0, now_s=0.0)
    bucket.charge(5.0)

    assert not bucket.take(2.5)
    assert bucket.take(3.0)


def test_each_key_has_its_own() -> None:
    """One that has taken all is nothing to another; a flood of keys does not wash out those that go on."""
    now_s = [0.0]
    buckets = TokenBuckets(1.0, 2.0, lambda: now_s[0])
    assert buckets.bucket("a").take(0.0, 2.0)
    assert not buckets.bucket("a").take(0.0)
    assert buckets.bucket("b").take(0.0)
    for number in range(3 * MAX_KEYS):
        buckets.bucket(number)
        assert not buckets.bucket("a").take(0.0)
    assert buckets.bucket("b").take(0.0, 2.0)  # it was forgotten, and has a full one

    assert len(buckets._buckets) == MAX_KEYS


def test_a_key_that_is_no_more_is_forgotten() -> None:
    """One that comes under it later begins with a full one."""
    buckets = TokenBuckets(1.0, 2.0, lambda: 0.0)
    buckets.bucket("a").charge(5.0)
    buckets.forget("a")
    buckets.forget("stranger")

    assert buckets.bucket("a").available(0.0) == 2.0


def test_without_a_bound_nothing_runs_out() -> None:
    """Any number a second."""
    bucket = TokenBucket(float("inf"), 3.0, now_s=0.0)
    assert bucket.take(0.0, 3.0)

    assert bucket.take(1e-9, 3.0)
