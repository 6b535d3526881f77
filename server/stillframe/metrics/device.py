"""Metrics of the device's work: who waits for it, what it is busy with, passes, drafts, batches, chunks that are held.

Knows no session by name and no model.
"""

from __future__ import annotations

from prometheus_client import CollectorRegistry

from stillframe.domain import RTC_WHYS, SlackReport, StepReport
from stillframe.metrics.buckets import ACCEPTED_BUCKETS, BATCH_BUCKETS, LATENCY_BUCKETS_S, PASSES_BUCKETS
from stillframe.metrics.factory import MetricFactory

QUEUE = "queue"  # the stage in which a frame waits for the device
FRAMES, REFRESHES, AUDITS = "frames", "refreshes", "audits"  # what it works on
HELD = "held"  # of a chunk: to the last one


class DeviceMetrics:
    """The device's work, over all sessions."""

    def __init__(self, registry: CollectorRegistry):
        make = MetricFactory(registry)
        self._wait_s = make.histogram(
            "stillframe_queue_wait_seconds",
            "Time that answered frames waited for the device, by whether their robots had actions left to play.",
            LATENCY_BUCKETS_S,
            ["actions_left"],
        )
        self._busy_s = make.counter(
            "stillframe_device_busy_seconds",
            "Time that the device worked on answered frames, those of a batch once, on refreshes and on audits.",
            ["work"],
        )
        self._passes = make.histogram(
            "stillframe_passes_per_action", "Decoder passes until an action was complete.", PASSES_BUCKETS
        )
        self._accepted = make.histogram(
            "stillframe_draft_accepted_tokens",
            "Draft tokens that the first pass accepted, by draft mode and by how they were guessed.",
            ACCEPTED_BUCKETS,
            ["draft", "way"],
        )
        self._rtc = make.counter(
            "stillframe_rtc_frames", "Frames whose chunk was to be held to the last one: held, or why not.", ["outcome"]
        )
        for outcome in (HELD, *RTC_WHYS):
            self._rtc.labels(outcome)
        self._batch = make.histogram(
            "stillframe_batch_frames", "Frames of the batch that an answered one was computed in.", BATCH_BUCKETS
        )
        for work in (FRAMES, REFRESHES, AUDITS):
            self._busy_s.labels(work)
        for left in ("yes", "no"):
            self._wait_s.labels(left)

    def frame(self, report: StepReport, *, actions_left: bool) -> None:
        """Record what one frame took of the device, and how long it waited for it."""
        waited_ms = report.stages_ms.get(QUEUE, 0.0)
        self._wait_s.labels("yes" if actions_left else "no").observe(waited_ms / 1000)
        self._busy_s.labels(FRAMES).inc(report.computed_ms / report.batch / 1000)
        self._passes.observe(report.passes)
        self._batch.observe(report.batch)
        if report.draft.mode != "off":
            self._accepted.labels(report.draft.mode, report.draft.way).observe(report.draft.accepted)
        if report.rtc is not None:
            self._rtc.labels(report.rtc.why or HELD).inc()

    def refresh(self, report: SlackReport) -> None:
        """Record an idle refresh, or an audit."""
        self._busy_s.labels(AUDITS if report.audit else REFRESHES).inc(report.duration_ms / 1000)
