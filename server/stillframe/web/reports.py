"""Writes what a frame reused, and which frame of its session it was, for replies and their headers.

Knows no dialect: a readable reply holds the report, a bare one only its headers.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from stillframe.domain import CacheReport
from stillframe_client.wire import CACHE_HEADER, PLACE_HEADER

Report = Mapping[str, Any]  # member of a readable reply -> its value

_HEADERS = {"cache": CACHE_HEADER, "session": PLACE_HEADER}


def reuse_report(cache: CacheReport, session_id: str | None) -> Report:
    """The members `cache` and, for a session's frame, `session`."""
    report: dict[str, Any] = {
        "cache": {
            "mode": cache.mode,
            "frame": cache.frame,
            "reason": None if cache.keyframe_reason is None else cache.keyframe_reason.value,
            "reuse_ratio": cache.reuse_ratio,
            "reused_tokens": cache.reused_tokens,
            "total_tokens": cache.total_tokens,
            "kv_bytes": cache.kv_bytes,
            "age_max": cache.age_max,
            **({"relaxed": True} if cache.relaxed else {}),
        }
    }
    if session_id is not None:
        report["session"] = {"id": session_id, "epoch": cache.epoch, "seq": cache.seq}
    return report


def report_headers(report: Report) -> dict[str, str]:
    """The same as headers, for those who read no members."""
    return {_HEADERS[member]: json.dumps(value, separators=(",", ":")) for member, value in report.items()}
