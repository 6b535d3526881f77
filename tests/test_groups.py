"""Tests that share a daemon or a module's fixtures run on one worker: a fixture that is made twice costs twice."""

from __future__ import annotations

import pytest


def test_the_group_is_known_where_tests_are_handed_out(request: pytest.FixtureRequest) -> None:
    """Xdist reads a group off the end of a test's id, and writes it there before ours are given unless ours are first.

    Where tests are not handed out by group, there is nothing to read.
    """
    handed_out = getattr(request.config.option, "loadgroup", False)  # xdist's word to its workers

    assert request.node.get_closest_marker("xdist_group").args == ("test_groups.py",)
    assert request.node.nodeid.endswith("@test_groups.py") == handed_out
