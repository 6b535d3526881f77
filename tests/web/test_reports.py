from __future__ import annotations

import json
from dataclasses import replace

from stillframe.domain import CacheReport
from stillframe.web.reports import report_headers, reuse_report
from stillframe_client.sessions import cache_report

EXACT = CacheReport("adaptive", None, 0.5, 140, 281, 1_105_920, age_max=3)


def test_relaxed_tokens_are_told() -> None:
    """In the reply and in its header, and the client reads it; nothing is said where every token is the likeliest."""
    exact, relaxed = (reuse_report(cache, None) for cache in (EXACT, replace(EXACT, relaxed=True)))

    assert "relaxed" not in exact["cache"]
    assert relaxed["cache"] == {**exact["cache"], "relaxed": True}
    assert json.loads(report_headers(relaxed)["X-Stillframe-Cache"]) == relaxed["cache"]
    assert [cache_report(report["cache"]).relaxed for report in (exact, relaxed)] == [False, True]
