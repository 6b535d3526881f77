"""Reply metadata: what a frame reused, its history, its session position, as members and as headers.

Knows no dialect: a native reply has the members, a bare array only the headers.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from stillframe.domain import CacheReport, HistoryInfo, HistoryReport, RtcReport
from stillframe_client.wire import (
    CACHE_HEADER,
    CAMERAS_HEADER,
    HISTORY_HEADER,
    PLACE_HEADER,
    RTC_HEADER,
    WARNING_HEADER,
)

Report = Mapping[str, Any]  # member of a readable reply -> its value

_HEADERS = {
    "cache": CACHE_HEADER,
    "history": HISTORY_HEADER,
    "rtc": RTC_HEADER,
    "session": PLACE_HEADER,
    "cameras": CAMERAS_HEADER,
    "warnings": WARNING_HEADER,
}
_NEEDS_A_SESSION = "older frames are a session's, and this one named none"


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
            "bit_equal": cache.bit_equal,
            **({"relaxed": True} if cache.relaxed else {}),
            **({"beside_ms": round(cache.beside_ms, 3)} if cache.beside_ms else {}),
            **({"pruned_ratio": cache.pruned_ratio} if cache.pruned_ratio else {}),
        }
    }
    if session_id is not None:
        report["session"] = {"id": session_id, "epoch": cache.epoch, "seq": cache.seq}
    return report


def history_report(info: HistoryInfo, history: HistoryReport | None) -> Report:
    """The member `history`: what is kept of older frames, or why nothing is, and what there is to be warned of."""
    said: dict[str, Any] = {"enabled": history is not None}
    if history is None:
        said["why"] = _NEEDS_A_SESSION if info.enabled else info.why
    else:
        said |= {"held": history.held, "kept": history.kept, "dropped": history.dropped, "kv_bytes": history.nbytes}
    return {"history": said | ({"warning": info.warning} if info.warning else {})}


def rtc_report(rtc: RtcReport | None) -> Report:
    """The member `rtc` of a frame that asked for it: what its chunk was held to, or why to nothing."""
    if rtc is None:
        return {}
    told = {"chunk_seq": rtc.chunk_seq} if rtc.why is None else {"why": rtc.why}
    return {"rtc": {"frozen": rtc.frozen, "guided": rtc.guided, **told}}


def input_report(cameras: Mapping[str, str], warnings: Sequence[str]) -> Report:
    """The members `cameras` (camera -> the client's key of its picture) and `warnings`, where there is anything."""
    said: dict[str, Any] = {"cameras": dict(cameras)} if cameras else {}
    return said | ({"warnings": list(warnings)} if warnings else {})


def report_headers(report: Report) -> dict[str, str]:
    """Return the report as HTTP headers."""
    return {_HEADERS[member]: json.dumps(value, separators=(",", ":")) for member, value in report.items()}
