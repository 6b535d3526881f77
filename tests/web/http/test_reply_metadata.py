from __future__ import annotations

import json
from dataclasses import replace

import pytest

from stillframe.domain import NO_HISTORY, CacheReport, HistoryInfo, HistoryReport
from stillframe.web.http.reply_metadata import history_report, report_headers, reuse_report
from stillframe_client import HistoryReport as Read
from stillframe_client.sessions import cache_report
from stillframe_client.sessions import history_report as read

EXACT = CacheReport("adaptive", None, 0.5, 140, 281, 1_105_920, age_max=3)
HELD = HistoryReport(held=6, slots=12, kept=41, dropped=35, nbytes=49_152)
ON = HistoryInfo(enabled=True)
NAMELESS = "older frames are a session's, and this one named none"
FORCED = replace(ON, warning="nobody trained it")


def test_relaxed_tokens_are_told() -> None:
    """In the reply and in its header, and the client reads it; nothing is said where every token is the likeliest."""
    exact, relaxed = (reuse_report(cache, None) for cache in (EXACT, replace(EXACT, relaxed=True)))

    assert "relaxed" not in exact["cache"]
    assert relaxed["cache"] == {**exact["cache"], "relaxed": True}
    assert json.loads(report_headers(relaxed)["X-Stillframe-Cache"]) == relaxed["cache"]
    assert [cache_report(report["cache"]).relaxed for report in (exact, relaxed)] == [False, True]


def test_work_beside_the_answers_is_told() -> None:
    """In milliseconds, where there was any; the client reads it, and none as nothing."""
    none, some = (reuse_report(cache, None) for cache in (EXACT, replace(EXACT, beside_ms=12.34567)))

    assert "beside_ms" not in none["cache"]
    assert some["cache"] == {**none["cache"], "beside_ms": 12.346}
    assert [cache_report(report["cache"]).beside_ms for report in (none, some)] == [0, 12.346]


def test_what_was_pruned_is_told() -> None:
    """In the reply and in its header, and the client reads it; nothing is said where nothing was."""
    whole, pruned = (reuse_report(cache, None) for cache in (EXACT, replace(EXACT, pruned_ratio=0.25)))

    assert "pruned_ratio" not in whole["cache"]
    assert pruned["cache"] == {**whole["cache"], "pruned_ratio": 0.25}
    assert json.loads(report_headers(pruned)["X-Stillframe-Cache"]) == pruned["cache"]
    assert [cache_report(report["cache"]).pruned_ratio for report in (whole, pruned)] == [0.0, 0.25]


@pytest.mark.parametrize("equal", [True, False])
def test_tokens_that_rounding_may_have_chosen_are_told(*, equal: bool) -> None:
    """In every reply and its header, and the client reads it."""
    report = reuse_report(replace(EXACT, bit_equal=equal), None)

    assert report["cache"]["bit_equal"] is equal
    assert json.loads(report_headers(report)["X-Stillframe-Cache"]) == report["cache"]
    assert cache_report(report["cache"]).bit_equal is equal


@pytest.mark.parametrize(
    ("info", "history", "expected"),
    [
        (ON, HELD, Read(enabled=True, held=6, kept=41, dropped=35, kv_bytes=49_152)),
        (FORCED, HELD, Read(enabled=True, held=6, kept=41, dropped=35, kv_bytes=49_152, warning="nobody trained it")),
        (NO_HISTORY, None, Read(enabled=False, why="history.enabled is false")),
        (ON, None, Read(enabled=False, why=NAMELESS)),
        (FORCED, None, Read(enabled=False, why=NAMELESS, warning="nobody trained it")),
    ],
    ids=["on", "forced", "off", "stateless", "forced-stateless"],
)
def test_older_frames_are_told(info: HistoryInfo, history: HistoryReport | None, expected: Read) -> None:
    """On or off and why, what is kept, and a warning in every reply of a policy that is forced; the client reads it."""
    report = history_report(info, history)

    assert read(report["history"]) == expected
    assert json.loads(report_headers(report)["X-Stillframe-History"]) == report["history"]
