"""Tests that share what takes long to make run on one worker; of many cases of one test a few run every day."""

from __future__ import annotations

import pytest


def test_the_group_is_known_where_tests_are_handed_out(request: pytest.FixtureRequest) -> None:
    """Xdist reads a group off the end of a test's id, and writes it there before ours are given unless ours are first.

    Where tests are not handed out by group, there is nothing to read.
    """
    handed_out = getattr(request.config.option, "loadgroup", False)  # xdist's word to its workers

    assert request.node.get_closest_marker("xdist_group").args == ("test_groups.py",)
    assert request.node.nodeid.endswith("@test_groups.py") == handed_out


@pytest.mark.few(2)
@pytest.mark.parametrize("number", range(5))
def test_of_many_cases_a_few_run_every_day(request: pytest.FixtureRequest, number: int) -> None:
    """The first and the last of these; the others are slow tests."""
    assert (request.node.get_closest_marker("slow") is None) == (number in (0, 4))
