"""Fields of the bridge's settings: each with a description, a unit and a range that is checked.

Knows no section and no file format. A unit is the end of the field's name.
"""

from __future__ import annotations

import math
from dataclasses import field, fields
from typing import Any, Optional, Sequence, Tuple

UNITS = {
    "hz": "Hz",
    "fps": "pictures a second",
    "width": "pixels",
    "height": "pixels",
    "resize": "pixels",
    "rad_s2": "rad/s2",
    "rad_s": "rad/s",
    "m_s3": "m/s3",
    "m_s2": "m/s2",
    "m_s": "m/s",
    "1_s": "1/s",
    "rad": "rad",
    "deg": "degrees",
    "percent": "%",
    "m": "m",
    "s": "s",
}  # end of a name -> unit; the first that fits
MOST = 10**12  # larger numbers are no measure of anything, and do not fit a float


def setting(
    default: Any,
    description: str,
    low: Optional[float] = None,
    high: Optional[float] = None,
    choices: Tuple[Any, ...] = (),
) -> Any:
    """A dataclass field with a description and an inclusive range; that of a tuple is its numbers'."""
    return field(default=default, metadata={"description": description, "low": low, "high": high, "choices": choices})


def unit_of(name: str) -> str:
    """The unit that a field's name ends in; empty: it is a number of things, or none."""
    return next((unit for end, unit in UNITS.items() if name == end or name.endswith(f"_{end}")), "")


def range_of(about: Any) -> str:
    """What a field may be, in words; empty: anything of its type."""
    if about["choices"]:
        return ", ".join(map(str, about["choices"]))
    low, high = about["low"], about["high"]
    return "" if low is None or high is None else f"{low:g} to {high:g}"


class RangeChecked:
    """Raises ValueError for fields out of their ranges: a line for each."""

    def __post_init__(self) -> None:
        faults = [
            fault
            for part in fields(self)  # type: ignore[arg-type]  # every subclass is a dataclass
            for fault in _faults(part.name, getattr(self, part.name), part.metadata)
        ]
        if faults:
            raise ValueError("\n".join(faults))


def _faults(name: str, value: Any, about: Any) -> Sequence[str]:
    if not about:
        return []
    if about["choices"] and value not in about["choices"]:
        return [f"{name} is {value!r}; expected one of {', '.join(map(str, about['choices']))}"]
    least = -math.inf if about["low"] is None else about["low"]
    most = math.inf if about["high"] is None else about["high"]
    numbers = [part for part in (value if isinstance(value, tuple) else (value,)) if isinstance(part, (int, float))]
    if all(abs(number) <= MOST and least <= number <= most for number in numbers):  # nan is none of these
        return []
    return [f"{name} is {value!s:.60}; expected {least:g} to {most:g}"]
