from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from stillframe.domain import HistoryReport
from stillframe_lab.evaluation.trace import AnsweredFrame, Trace, figures, percentiles, planning, reuse_ratio

KEY = AnsweredFrame("adaptive", "reset", 0.0, 0, 100, {"plan": 0.0, "prefill": 10.0, "keep": 0.0}, gmacs=4.0)
DELTA = AnsweredFrame("adaptive", None, 0.6, 60, 100, {"plan": 1.0, "prefill": 4.0, "keep": 1.0}, gmacs=2.0)


def told(**changes: Any) -> dict[str, Any]:
    """The figures of a keyframe and three delta frames, of which two were measured."""
    trace = Trace([KEY, DELTA, DELTA, DELTA], [20.0, 30.0], [0.0, 0.1])
    return figures(replace(trace, **changes), [12.0, 6.0, 7.0, 8.0])


def test_reuse_is_that_of_whole_episodes() -> None:
    """Keyframes count as frames that reuse nothing, and a longer prompt counts for more."""
    long = replace(DELTA, reuse_ratio=0.1, total_tokens=300)

    assert told()["reuse_ratio"] == pytest.approx(0.45)
    assert reuse_ratio([KEY, DELTA, long]) == pytest.approx((60 + 30) / 500)
    assert reuse_ratio([]) is None


def test_what_was_pruned_is_a_share_of_whole_episodes() -> None:
    """Of all token-layers; nothing is said where nothing was. Their answers can drift: null where none is measured."""
    pruned = replace(KEY, keyframe_reason="pruned", pruned_ratio=0.3, total_tokens=300, gmacs=None)

    assert told(frames=[KEY, pruned, pruned, pruned])["pruned_ratio"] == pytest.approx(0.27)
    assert "pruned_ratio" not in told()
    assert told(frames=[pruned] * 4, drifts=[])["drift"]["p50"] is None
    assert told(frames=[KEY] * 4, drifts=[])["drift"]["p50"] == 0


def test_keyframes_are_counted_by_reason_and_timed_apart() -> None:
    """Their number, why they were, and latencies of either kind."""
    figure = told(frames=[KEY, DELTA, replace(KEY, keyframe_reason="drift"), DELTA])

    assert (figure["frames"], figure["keyframes"]) == (4, 2)
    assert figure["keyframe_reasons"] == {"drift": 1, "reset": 1}
    assert figure["keyframe_latency_ms"]["p50"] == pytest.approx((12 + 7) / 2)
    assert figure["delta_latency_ms"]["p50"] == pytest.approx((6 + 8) / 2)
    assert figure["llm_prefill_ms"]["p50"] == pytest.approx(7.0)
    assert figure["llm_prefill_delta_ms"]["p50"] == pytest.approx(4.0)


def test_work_is_the_mean_of_all_frames() -> None:
    """Multiply-adds per step, and those of delta frames; null as soon as one frame's are not known."""
    assert told()["decoder_gmacs"] == pytest.approx(2.5)
    assert told()["decoder_gmacs_delta"] == pytest.approx(2.0)
    assert told(frames=[KEY, DELTA, replace(DELTA, gmacs=None), DELTA])["decoder_gmacs"] is None


def test_planning_is_a_share_of_the_step() -> None:
    """What is there for reuse alone: choosing before the pass, remembering after it. One slow frame moves no median."""
    stalled = replace(DELTA, stages_ms={"plan": 90.0, "prefill": 4.0})

    assert planning([DELTA])["p50"] == pytest.approx(2.0)
    assert planning([DELTA, stalled, DELTA])["share"] == pytest.approx(2 / 6)
    assert planning([])["share"] is None


def test_drift_is_that_of_the_frames_that_were_measured() -> None:
    """Percentiles of those alone; how many they are stands beside."""
    figure = told()["drift"]

    assert (figure["frames"], figure["p50"], figure["max"]) == (2, pytest.approx(0.05), 0.1)
    assert told()["slack"] == {"rests": 2, "p50_ms": 25.0}


def test_keyframes_have_no_drift_and_unmeasured_drift_is_null() -> None:
    """Nothing but keyframes: nought. Delta frames of a daemon, which keeps its drift: null."""
    whole = told(frames=[KEY] * 4, drifts=[])["drift"]
    unknown = told(drifts=[])["drift"]

    assert (whole["p50"], whole["p90"], whole["p99"], whole["frames"]) == (0.0, 0.0, 0.0, 0)
    assert unknown["p99"] is unknown["max"] is None


def test_every_frame_needs_its_latency() -> None:
    """A trace that is longer than the episodes, or shorter, is somebody's mistake."""
    with pytest.raises(ValueError, match="zip"):
        figures(Trace([KEY]), [1.0, 2.0])


def test_figures_are_plain_json() -> None:
    """Empty ones too."""
    for figure in (told(), figures(Trace(), [])):
        assert json.loads(json.dumps(figure)) == figure
    assert percentiles([]) == {"p50": None, "p99": None}


def test_older_frames_are_counted_by_episodes() -> None:
    """Held and bytes at their most; bytes at an episode's end, mean; what stayed and what went, of all episodes."""
    episodes = ([(1, 1, 0), (2, 2, 0), (2, 3, 1)], [(1, 1, 0)])
    reports = [
        HistoryReport(held, 2 * held, kept, dropped, held * 2**20) for one in episodes for held, kept, dropped in one
    ]
    frames = [replace(KEY, history=report) for report in reports]
    figure = figures(Trace(frames), [1.0] * 4)

    assert (figure["history_mib"], figure["history_end_mib"]) == (2.0, 1.5)
    assert figure["chunks"] == {"held": 2, "kept": 4, "dropped": 1}
    assert told()["chunks"] == {"held": 0, "kept": 0, "dropped": 0}


def test_traces_are_taken_and_joined() -> None:
    """Taking leaves nothing behind; joining keeps the order."""
    first, second = Trace([KEY], [1.0], [0.1], [True]), Trace([DELTA], [2.0], [0.2], [False])
    taken = first.taken()
    whole = Trace.joined([taken, second])

    assert first == Trace()
    assert (whole.frames, whole.rests_ms, whole.drifts) == ([KEY, DELTA], [1.0, 2.0], [0.1, 0.2])
    assert whole.asked == [True, False]
