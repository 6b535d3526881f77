"""Settings of the live page, each with its range.

Knows no YAML: plain values, checked when they are made.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from stillframe.settings_fields import RangeChecked, setting


@dataclass(frozen=True)
class LiveSettings(RangeChecked):
    """Whether a browser gets pages, how many may watch, and how often each is sent the newest frame."""

    __pydantic_config__: ClassVar[dict[str, Any]] = {"extra": "forbid", "strict": True}

    enabled: bool = setting(default=True, description="whether / shows what sessions do, and /docs the API")
    most: int = setting(8, "browsers that may watch at once; one more is answered 503", low=1, high=256)
    rate_hz: float = setting(5.0, "pictures a second that each is sent, at most", low=1, high=30)
