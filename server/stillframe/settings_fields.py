"""Fields of configuration sections, each with a description and a range that is checked.

Knows no section and no YAML.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import field, fields
from typing import Any


def setting(default: Any, description: str, low: float | None = None, high: float | None = None) -> Any:
    """A dataclass field with a description and an inclusive range. A list's range is that of its numbers."""
    metadata = {"description": description, "low": low, "high": high}
    if isinstance(default, list):
        return field(default_factory=lambda: list(default), metadata=metadata)
    return field(default=default, metadata=metadata)


class RangeChecked:
    """Raises ValueError for a field out of its range."""

    def __post_init__(self) -> None:
        for part in fields(self):  # type: ignore[arg-type]  # every subclass is a dataclass
            if "low" in part.metadata:
                _check(part.name, getattr(self, part.name), part.metadata["low"], part.metadata["high"])


def _check(name: str, value: Any, low: float | None, high: float | None) -> None:
    numbers = [part for part in (value if isinstance(value, Sequence) else [value]) if isinstance(part, int | float)]
    least, most = -math.inf if low is None else low, math.inf if high is None else high
    if not all(least <= number <= most for number in numbers):
        raise ValueError(f"{name} is {value}; expected {least:g} to {most:g}")
