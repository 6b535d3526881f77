"""Settings of sessions, each with its range.

Knows no YAML: plain values, checked when they are made.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from stillframe.settings_fields import RangeChecked, setting


@dataclass(frozen=True)
class SessionSettings(RangeChecked):
    """How many sessions may be open, how long they last, how many replies each keeps."""

    __pydantic_config__: ClassVar[dict[str, Any]] = {"extra": "forbid", "strict": True}

    most: int | None = setting(
        None, "sessions at once; null: as many as the KV pool has slots, 64 without a pool", low=1, high=1_000_000
    )
    ttl_s: float = setting(120.0, "a session that is unused for so long expires", low=1, high=3600)
    lease_s: float = setting(5.0, "a session used within this time never makes room for another", low=0, high=3600)
    resume_s: float = setting(10.0, "a session whose connection dropped is kept for so long", low=0, high=3600)
    waiting: int = setting(1, "frames of one session that may wait behind the one computed", low=0, high=64)
    replies: int = setting(8, "last answers of a session that are kept for a repeated frame", low=0, high=1024)
