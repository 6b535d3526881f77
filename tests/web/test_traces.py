"""Which frames are traced, over every wire, and what their traces are told: by a tracer that keeps it."""

from __future__ import annotations

import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families

PARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
OPEN_METRICS = "application/openmetrics-text; version=1.0.0"


def test_an_answered_frame_is_told(new_desk, frame, tracer):
    """Its route, request and headers as it begins; its stages, in order and within its time; how it ended, once."""
    desk = new_desk(tracer=tracer)
    reply = desk.act({**frame, "session_id": "arm"}, traceparent=PARENT)
    (trace,) = tracer.traces

    assert (trace.route, trace.age_ms, trace.headers["traceparent"]) == ("/act", 0.0, PARENT)
    assert reply.headers["X-Request-Id"] == trace.request_id
    assert (trace.frame.session_id, trace.frame.replayed) == ("arm", False)
    names = [stage.name for stage in trace.frame.stages]
    assert names == ["receive", "unpack", *trace.frame.report.stages_ms]
    assert all(0 <= stage.begin_s <= stage.end_s for stage in trace.frame.stages)
    assert trace.ended == [("answered", None)]


def test_a_repeat_has_no_stages_of_another_frame(new_desk, frame, tracer):
    """It was not computed again."""
    desk = new_desk(tracer=tracer)
    for _ in range(2):
        desk.act({**frame, "session_id": "arm", "seq": 3})
    repeat = tracer.traces[-1].frame

    assert repeat.replayed
    assert [stage.name for stage in repeat.stages] == ["receive", "unpack"]


@pytest.mark.parametrize(
    ("error", "ended"), [(None, ("rejected", "missing-field")), (OSError(), ("failed", "internal"))]
)
def test_a_frame_without_an_answer_ends_its_trace(new_desk, frame, tracer, error, ended):
    """With its problem's code, the one in the reply."""
    desk = new_desk(tracer=tracer)
    desk.policy.error = error
    reply = desk.act(frame if error else {"instruction": "go"})
    (trace,) = tracer.traces

    assert (trace.frame, trace.ended) == (None, [ended])
    assert reply.json()["code"] == ended[1]
    assert reply.json()["request_id"] == trace.request_id


@pytest.mark.parametrize("samples", [False, True])
def test_exemplars_name_the_traces_that_there_are(new_desk, frame, tracer, samples):
    """In OpenMetrics, which Prometheus asks for; the text format has none, and no frame without a trace."""
    tracer.samples = samples
    desk = new_desk(tracer=tracer)
    desk.act(frame)
    open_metrics = desk.ask("GET", "/metrics", headers={"accept": OPEN_METRICS})
    text = desk.ask("GET", "/metrics")
    named = {
        sample.exemplar.labels["trace_id"]
        for family in text_string_to_metric_families(open_metrics.text)
        for sample in family.samples
        if sample.exemplar
    }

    assert open_metrics.headers["content-type"].startswith("application/openmetrics-text")
    assert text.headers["content-type"].startswith("text/plain")
    assert named == ({"c0ffee"} if samples else set())
    assert "c0ffee" not in text.text


@pytest.mark.parametrize("accept", ["", "*/*", "text/plain; version=zz", f"{OPEN_METRICS[:-5]}x", "a/b;;=,"])
def test_whatever_a_scraper_accepts_it_is_answered(desk, accept):
    """What is said of a version is not believed, nor repeated."""
    reply = desk.ask("GET", "/metrics", headers={"accept": accept})

    assert reply.status_code == 200
    assert reply.headers["content-type"].partition(";")[0] in {"text/plain", OPEN_METRICS.partition(";")[0]}
    assert "version=1.0.0" in reply.headers["content-type"] or "version=0.0.4" in reply.headers["content-type"]
