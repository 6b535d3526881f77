"""Traces of frames as OpenTelemetry spans: one for the frame, and one below it for each stage.

Knows OpenTelemetry, which is optional (`stillframe[otel]`), and of a request the headers of W3C Trace Context. Spans
are made when a frame is over, from times that were taken anyway: until then a traced frame costs no more than another.
"""

from __future__ import annotations

import time
from collections.abc import Mapping

from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import SERVICE_NAME, SERVICE_VERSION, Resource
from opentelemetry.sdk.trace import SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.sdk.trace.sampling import ParentBased, TraceIdRatioBased
from opentelemetry.trace import Span, SpanKind, StatusCode, Tracer, set_span_in_context
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from stillframe.tracing.frames import AnsweredFrame, Headers
from stillframe.tracing.settings import TracingSettings

PREFIX = "stillframe."
ENCODE = "encode"  # the stage from the answer to the end, which is not timed otherwise
FAILED = "failed"  # the outcome that is the daemon's own fault
MOST_CHARS = {"traceparent": 128, "tracestate": 512}  # of the headers; a longer one counts as absent, as W3C allows
SEND_S = 2.0  # for one batch of spans
QUEUE_SPANS = 4096  # more are dropped: sending never holds a frame up


class OTelTracer:
    """Traces `settings.share` of the frames; those of clients that send a traceparent as it says."""

    def __init__(self, settings: TracingSettings, version: str, processor: SpanProcessor):
        """`processor` gets the spans as they end."""
        resource = Resource.create({SERVICE_NAME: "stillframe", SERVICE_VERSION: version})
        sampler = ParentBased(TraceIdRatioBased(settings.share))
        self._provider = TracerProvider(sampler, resource, shutdown_on_exit=False)
        self._provider.add_span_processor(processor)
        self._tracer = self._provider.get_tracer("stillframe", version)
        self._propagator = TraceContextTextMapPropagator()

    def begin(self, route: str, headers: Headers, request_id: str, age_ms: float = 0.0) -> OTelFrame | None:
        """As FrameTracer has it. A traceparent that is none begins a new trace."""
        said = {name: headers.get(name, "") for name in MOST_CHARS}
        carrier = {name: value for name, value in said.items() if 0 < len(value) <= MOST_CHARS[name]}
        arrived_ns = time.time_ns() - round(age_ms * 1e6)
        span = self._tracer.start_span(
            f"frame {route}",
            self._propagator.extract(carrier, Context()),
            SpanKind.SERVER,
            {"http.route": route, PREFIX + "request_id": request_id},
            start_time=arrived_ns,
        )
        return OTelFrame(self._tracer, span, arrived_ns) if span.is_recording() else None

    def close(self) -> None:
        """As FrameTracer has it."""
        self._provider.shutdown()


class OTelFrame:
    """One frame's spans."""

    def __init__(self, tracer: Tracer, span: Span, arrived_ns: int):
        self._tracer = tracer
        self._span = span
        self._arrived_ns = arrived_ns
        self._answered: tuple[AnsweredFrame, int] | None = None  # and when, in ns

    @property
    def exemplar(self) -> Mapping[str, str]:
        """The trace's id, as Grafana looks for it."""
        return {"trace_id": f"{self._span.get_span_context().trace_id:032x}"}

    def answered(self, frame: AnsweredFrame) -> None:
        """As FrameTrace has it."""
        self._answered = frame, time.time_ns()

    def end(self, outcome: str, code: str | None) -> None:
        """As FrameTrace has it."""
        over_ns = time.time_ns()
        self._span.set_attribute(PREFIX + "outcome", outcome)
        if code is not None:
            self._span.set_attribute(PREFIX + "problem", code)
        if outcome == FAILED:
            self._span.set_status(StatusCode.ERROR)
        if self._answered is not None:
            frame, answered_ns = self._answered
            self._span.set_attributes({PREFIX + name: value for name, value in facts(frame).items()})
            for stage in frame.stages:
                self._child(stage.name, self._at_ns(stage.begin_s), self._at_ns(stage.end_s))
            self._child(ENCODE, answered_ns, over_ns)
        self._span.end(over_ns)

    def _at_ns(self, since_s: float) -> int:
        return self._arrived_ns + round(since_s * 1e9)

    def _child(self, name: str, begin_ns: int, end_ns: int) -> None:
        below = set_span_in_context(self._span, Context())
        self._tracer.start_span(name, below, start_time=begin_ns).end(end_ns)


def facts(frame: AnsweredFrame) -> dict[str, str | int | float | bool]:
    """What one looks for in traces, by name."""
    report, cache = frame.report, frame.report.cache
    known = {
        "session": frame.session_id,
        "epoch": cache.epoch if frame.session_id is not None else None,
        "seq": cache.seq if frame.session_id is not None else None,
        "replayed": frame.replayed,
        "mode": cache.mode,
        "keyframe_reason": None if cache.keyframe_reason is None else cache.keyframe_reason.value,
        "reuse_ratio": cache.reuse_ratio,
        "passes": report.passes,
        "batch": report.batch,
        "draft_accepted": None if report.draft.mode == "off" else report.draft.accepted,
    }
    return {name: value for name, value in known.items() if value is not None}


def exporting_tracer(settings: TracingSettings, version: str) -> OTelTracer:
    """Sends spans in batches, from a thread of its own, to the endpoint that the operator set."""
    exporter = OTLPSpanExporter(settings.endpoint, timeout=SEND_S)
    return OTelTracer(settings, version, BatchSpanProcessor(exporter, max_queue_size=QUEUE_SPANS))
