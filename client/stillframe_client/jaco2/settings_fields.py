"""Fields of the bridge's settings: each with a description, a unit and a range that is checked.

Knows no section and no file format.
"""

from __future__ import annotations

import math
from dataclasses import field, fields
from typing import Any, Optional, Sequence, Tuple


def setting(
    default: Any,
    description: str,
    low: Optional[float] = None,
    high: Optional[float] = None,
    choices: Tuple[Any, ...] = (),
) -> Any:
    """A dataclass field with a description and an inclusive range; that of a tuple is its numbers'."""
    return field(default=default, metadata={"description": description, "low": low, "high": high, "choices": choices})


class RangeChecked:
    """Raises ValueError for fields out of their ranges, all of them in one text."""

    def __post_init__(self) -> None:
        faults = [
            fault
            for part in fields(self)  # type: ignore[arg-type]  # every subclass is a dataclass
            for fault in _faults(part.name, getattr(self, part.name), part.metadata)
        ]
        if faults:
            raise ValueError("; ".join(faults))


def _faults(name: str, value: Any, about: Any) -> Sequence[str]:
    if not about:
        return []
    if about["choices"] and value not in about["choices"]:
        return [f"{name} is {value!r}; expected one of {', '.join(map(str, about['choices']))}"]
    least = -math.inf if about["low"] is None else about["low"]
    most = math.inf if about["high"] is None else about["high"]
    numbers = [part for part in (value if isinstance(value, tuple) else (value,)) if isinstance(part, (int, float))]
    if all(math.isfinite(number) and least <= number <= most for number in numbers):
        return []
    return [f"{name} is {value}; expected {least:g} to {most:g}"]
