"""Frames as OpenTelemetry spans, kept in memory: what each says, how they hang together, which are sampled."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from stillframe.domain import CacheReport, DraftReport, KeyframeReason, StepReport
from stillframe.tracing import AnsweredFrame, timeline
from stillframe.tracing.settings import TracingSettings

pytest.importorskip("opentelemetry.sdk", reason="OpenTelemetry is not installed: pip install -e '.[dev]'")

from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode

from stillframe.tracing.otel import OTelTracer, exporting_tracer

TRACE, SPAN = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
SAMPLED, LEFT_OUT = ({"traceparent": f"00-{TRACE}-{SPAN}-{flag}"} for flag in ("01", "00"))
DELTA = CacheReport("adaptive", None, 0.5, 10, 20, 100, age_max=2, epoch=1, seq=7)
REPORT = StepReport({"queue": 10.0, "vision": 20.0}, 2, DELTA, DraftReport("exact", "previous", 4), batch=3)

Make = Callable[..., tuple[OTelTracer, InMemorySpanExporter]]


@pytest.fixture
def traced() -> Make:
    """A tracer, and what keeps its spans: `traced(share=1.0)`."""

    def make(share: float = 1.0) -> tuple[OTelTracer, InMemorySpanExporter]:
        kept = InMemorySpanExporter()
        return OTelTracer(TracingSettings(share=share), "1.2.3", SimpleSpanProcessor(kept)), kept

    return make


def answered(report: StepReport = REPORT, session: str | None = "arm", *, replayed: bool = False) -> AnsweredFrame:
    """A frame that came 100 ms ago, was handed on after 8 ms and answered after 50 ms."""
    return AnsweredFrame([*timeline({"receive": 5.0}, 8.0, report.stages_ms, 50.0)], report, session, replayed)


def finished(kept: InMemorySpanExporter) -> dict[str, Any]:
    """Spans by name."""
    return {span.name: span for span in kept.get_finished_spans()}


def test_a_frame_is_a_span_with_one_for_each_stage(traced: Make) -> None:
    """In order, below the frame's own, from its arrival to its end; encoding is the last of them."""
    tracer, kept = traced()
    frame = tracer.begin("/act", {}, "request-1", age_ms=100.0)
    frame.answered(answered())
    frame.end("answered", None)
    spans = finished(kept)
    root = spans.pop("frame /act")
    starts = [(span.start_time - root.start_time) / 1e6 for span in spans.values()]

    assert [*spans] == ["receive", "queue", "vision", "encode"]
    assert {span.parent.span_id for span in spans.values()} == {root.context.span_id}
    assert root.parent is None
    assert root.kind is SpanKind.SERVER
    assert starts[:3] == pytest.approx([0.0, 8.0, 18.0])
    assert starts[3] >= 100.0
    assert spans["encode"].end_time == root.end_time
    assert root.resource.attributes["service.name"] == "stillframe"
    assert root.resource.attributes["service.version"] == "1.2.3"


def test_a_span_says_what_one_looks_for(traced: Make) -> None:
    """The request, the session and its place in the episode, how it ended, what it cost."""
    tracer, kept = traced()
    frame = tracer.begin("/act", {}, "request-1")
    frame.answered(answered())
    frame.end("late", None)

    assert dict(finished(kept)["frame /act"].attributes) == {
        "http.route": "/act",
        "stillframe.request_id": "request-1",
        "stillframe.outcome": "late",
        "stillframe.session": "arm",
        "stillframe.epoch": 1,
        "stillframe.seq": 7,
        "stillframe.replayed": False,
        "stillframe.mode": "adaptive",
        "stillframe.reuse_ratio": 0.5,
        "stillframe.passes": 2,
        "stillframe.batch": 3,
        "stillframe.draft_accepted": 4,
    }


def test_what_a_frame_has_not_is_not_said(traced: Make) -> None:
    """A stateless keyframe has a reason, and neither session nor draft."""
    tracer, kept = traced()
    whole = CacheReport("off", KeyframeReason.STATELESS, 0.0, 0, 20, 0, 0)
    frame = tracer.begin("/act", {}, "r")
    frame.answered(answered(StepReport({}, 7, whole), session=None))
    frame.end("answered", None)
    said = finished(kept)["frame /act"].attributes

    assert said["stillframe.keyframe_reason"] == "stateless"
    assert not {f"stillframe.{name}" for name in ("session", "epoch", "seq", "draft_accepted", "problem")} & said.keys()


@pytest.mark.parametrize(("outcome", "status"), [("failed", StatusCode.ERROR), ("rejected", StatusCode.UNSET)])
def test_a_frame_without_an_answer_is_traced_too(traced: Make, outcome: str, status: StatusCode) -> None:
    """With its problem's code, no stages, and an error where it is the daemon's own."""
    tracer, kept = traced()
    tracer.begin("/act", {}, "r").end(outcome, "some-code")
    spans = finished(kept)

    assert [*spans] == ["frame /act"]
    assert spans["frame /act"].attributes["stillframe.problem"] == "some-code"
    assert spans["frame /act"].status.status_code is status


def test_a_clients_trace_goes_on(traced: Make) -> None:
    """The frame's span is below the client's, in its trace, which exemplars name."""
    tracer, kept = traced(share=0.0)
    frame = tracer.begin("/act", SAMPLED | {"tracestate": "vendor=1"}, "r")
    frame.end("answered", None)
    span = finished(kept)["frame /act"]

    assert f"{span.context.trace_id:032x}" == frame.exemplar["trace_id"] == TRACE
    assert f"{span.parent.span_id:016x}" == SPAN
    assert span.context.trace_state["vendor"] == "1"


def test_a_client_that_does_not_sample_is_not_traced(traced: Make) -> None:
    """Whatever the daemon's own share."""
    tracer, _ = traced(share=1.0)

    assert tracer.begin("/act", LEFT_OUT, "r") is None


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"traceparent": ""},
        {"traceparent": "00-0-0-01"},
        {"traceparent": f"00-{'0' * 32}-{SPAN}-01"},
        {"traceparent": f"ff-{TRACE}-{SPAN}-01"},
        {"traceparent": f"01-{TRACE}-{SPAN}-01-{'x' * 200}"},
        {"traceparent": "http://elsewhere.example/v1/traces"},
        {"tracestate": "vendor=1"},
    ],
)
@pytest.mark.parametrize("share", [0.0, 1.0])
def test_what_is_no_traceparent_begins_a_trace_of_its_own(traced: Make, headers: dict[str, str], share: float) -> None:
    """Or none: then the daemon's share decides."""
    tracer, kept = traced(share)
    frame = tracer.begin("/act", headers, "r")
    if frame is not None:
        frame.end("answered", None)
    spans = finished(kept)

    assert (frame is not None) == bool(spans) == (share == 1.0)
    for span in spans.values():
        assert span.parent is None
        assert f"{span.context.trace_id:032x}" != TRACE


def test_a_long_tracestate_is_left_out(traced: Make) -> None:
    """The trace goes on without it."""
    tracer, kept = traced()
    tracer.begin("/act", SAMPLED | {"tracestate": f"vendor={'1' * 600}"}, "r").end("answered", None)

    assert not finished(kept)["frame /act"].context.trace_state


def test_about_the_share_is_traced(traced: Make) -> None:
    """Of many frames without a traceparent: some, and not all."""
    tracer, _ = traced(share=0.5)
    sampled = [tracer.begin("/act", {}, "r") is not None for _ in range(200)]

    assert 0 < sum(sampled) < 200


def test_an_endpoint_that_is_away_holds_nothing_up() -> None:
    """Frames begin and end; what cannot be sent is given up when the daemon stops."""
    tracer = exporting_tracer(TracingSettings("http://127.0.0.1:9/v1/traces", share=1.0), "0")
    for _ in range(3):
        tracer.begin("/act", {}, "r").end("answered", None)
    tracer.close()
