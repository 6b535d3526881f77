"""Values in the units of panels, as people read them."""

from __future__ import annotations

import math
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stillframe_lab.dashboards.units import SCALES, axis_format, written


@pytest.mark.parametrize(
    ("value", "unit", "text"),
    [
        (0.0213, "s", "21.3 ms"),
        (2.5, "s", "2.5 s"),
        (0.0, "s", "0 s"),
        (2.5e-5, "s", "25 µs"),
        (0.5, "percentunit", "50 %"),
        (0.0012, "percentunit", "0.12 %"),
        (4.5 * 2**20, "bytes", "4.5 MiB"),
        (12.0, "ops", "12 /s"),
        (0.0078, "none", "0.0078"),
        (1234.5, "none", "1,234"),
        (math.nan, "none", "–"),  # noqa: RUF001 (a dash)
        (math.inf, "none", "∞"),
    ],
)
def test_a_value_is_written_in_three_digits(value: float, unit: str, text: str) -> None:
    """In that size of its unit in which it is no fraction, if there is one."""
    assert written(value, unit) == text


def test_a_panel_may_ask_for_decimals() -> None:
    """As many, whatever the digits."""
    assert [written(value, "ops", 1) for value in (0.04, 12.345)] == ["0.0 /s", "12.3 /s"]


@pytest.mark.parametrize("unit", ["s", "bytes", "percentunit", "none"])
@given(value=st.floats(1e-3, 1e9))
def test_what_is_written_is_the_value(unit: str, value: float) -> None:
    """To half a percent, read back by the name of its size."""
    number, name = re.fullmatch(r"([\d.,e+-]+)(.*)", written(value, unit)).groups()
    (size,) = [size for size, called in SCALES[unit] if called == name]

    assert float(number.replace(",", "")) * size == pytest.approx(value, rel=0.0051)


def test_an_axis_keeps_to_one_size() -> None:
    """That of its end, however small a tick is."""
    form = axis_format("s", 0.25)

    assert [form(value, 0) for value in (0.0, 0.001, 0.25)] == ["0 ms", "1 ms", "250 ms"]
