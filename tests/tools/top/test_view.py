"""The whole view."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from stillframe.tools.top.view import view


@pytest.mark.parametrize(("width", "height"), [(120, 20), (120, 50), (80, 24), (60, 24)])
def test_a_view_fits_its_terminal(
    reading: Callable[..., Any], row: Callable[..., Any], drawn: Callable[..., list[str]], width: int, height: int
) -> None:
    """Every line of it, however long its lines and with trouble above; it says how many sessions are left out."""
    rows = [row(f"arm-{at}", idle_s=at) for at in range(40)]
    told = replace(reading(*rows, not_listed=5), trouble="It broke. " * 20)
    lines = drawn(view(told, width, height), width=width)
    shown = [line for line in lines if line.startswith("arm-") and "81%" in line]

    assert len(lines) <= height
    assert [line.split()[0] for line in shown] == [f"arm-{at}" for at in range(len(shown))]
    assert lines[-1] == f"and {45 - len(shown)} more, which were used longer ago"


def test_a_view_that_is_printed_has_all_sessions(
    reading: Callable[..., Any], row: Callable[..., Any], drawn: Callable[..., list[str]]
) -> None:
    """A file has no height."""
    lines = drawn(view(reading(*(row(f"arm-{at}") for at in range(40))), 160))

    assert len([line for line in lines if "delta" in line]) == 40
    assert not [line for line in lines if "more" in line]
