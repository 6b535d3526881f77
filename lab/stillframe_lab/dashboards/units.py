"""Writes a value in the unit of its panel, as Grafana does: 0.0213 s is 21.3 ms.

Knows Grafana's names of units; no panel.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

SCALES: Mapping[str, tuple[tuple[float, str], ...]] = {  # unit -> (so much of it, is called), the largest first
    "s": ((1, " s"), (1e-3, " ms"), (1e-6, " µs")),
    "bytes": ((2**30, " GiB"), (2**20, " MiB"), (2**10, " KiB"), (1, " B")),
    "percentunit": ((1e-2, " %"),),
    "ops": ((1, " /s"),),
    "cps": ((1, " /s"),),
    "none": ((1, ""),),
}


def written(value: float, unit: str, decimals: int | None = None) -> str:
    """In three digits, or with so many decimals; a dash for what is no number. Raises KeyError for another unit."""
    if math.isnan(value):
        return "–"  # noqa: RUF001 (a dash)
    if math.isinf(value):
        return "∞" if value > 0 else "-∞"
    scales = SCALES[unit]
    size, name = next(((size, name) for size, name in scales if abs(value) >= size), scales[-1] if value else scales[0])
    number = value / size
    return f"{number:.{decimals}f}{name}" if decimals is not None else f"{_three_digits(number)}{name}"


def axis_format(unit: str, highest: float) -> Callable[[float, int], str]:
    """How the ticks of an axis are written that ends at `highest`: all in one size of the unit."""
    size, name = axis_size(unit, highest)
    return lambda value, _: f"{_three_digits(value / size)}{name}"


def axis_size(unit: str, highest: float) -> tuple[float, str]:
    """So much of a unit an axis counts in that ends at `highest`, and what that is called."""
    scales = SCALES[unit]
    return next(((size, name) for size, name in scales if highest >= size), scales[-1])


def _three_digits(number: float) -> str:
    return f"{number:,.0f}" if abs(number) >= 100 else f"{number:.3g}"
