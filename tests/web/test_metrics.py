from __future__ import annotations

import pytest
from prometheus_client.parser import text_string_to_metric_families

from stillframe.domain import StepReport
from stillframe.errors import DeadlineExceeded, Internal, NotReady, Unprocessable
from stillframe.metrics import LATENCY_BUCKETS_S, Metrics, Outcome, outcome_of

NAMES = {
    "stillframe_frame_duration_seconds",
    "stillframe_stage_duration_seconds",
    "stillframe_frames",
    "stillframe_rejected",
    "stillframe_queue_depth",
    "stillframe_passes_per_action",
    "stillframe_ready",
    "stillframe_build_info",
}


def families(desk):
    text = desk.ask("GET", "/metrics").text
    return {family.name: family for family in text_string_to_metric_families(text) if "_created" not in family.name}


def test_everything_is_there_and_explained(desk, frame):
    """Each metric is exposed with a help text."""
    desk.act(frame)
    exposed = families(desk)

    assert set(exposed) == NAMES
    assert all(family.documentation.endswith(".") for family in exposed.values())


def test_a_frame_is_counted_and_timed(desk, frame):
    """One answered frame raises its counter, its stages and its passes by one, and waits no more."""
    desk.act(frame)

    assert desk.sample("stillframe_frames_total", outcome="answered") == 1
    assert desk.sample("stillframe_frame_duration_seconds_count", route="/act", outcome="answered") == 1
    assert desk.sample("stillframe_stage_duration_seconds_sum", stage="prefill") == 0.002
    assert desk.sample("stillframe_stage_duration_seconds_count", stage="unpack") == 1
    assert desk.sample("stillframe_passes_per_action_sum") == 2
    assert desk.sample("stillframe_queue_depth") == 0


def test_failures_are_counted_by_code(desk, frame):
    """Rejections, refusals and faults count under their code and outcome; nothing stays in the queue."""
    desk.act({**frame, "unnorm_key": "nobody's"})
    desk.policy.error = RuntimeError("unforeseen")
    desk.act(frame)
    desk.policy.ready = False
    desk.act(frame)

    assert desk.sample("stillframe_rejected_total", code="unknown-unnorm-key") == 1
    assert desk.sample("stillframe_rejected_total", code="internal") == 1
    assert desk.sample("stillframe_rejected_total", code="not-ready") == 1
    counts = [desk.sample("stillframe_frames_total", outcome=name) for name in ("rejected", "failed", "refused")]
    assert counts == [1, 1, 1]
    assert desk.sample("stillframe_queue_depth") == 0


def test_readiness_and_build_are_told(desk):
    """The gauge follows the daemon's state; the build names the model."""
    ready = families(desk)["stillframe_ready"].samples[0].value
    build = families(desk)["stillframe_build_info"].samples[0].labels
    desk.lifecycle.drain()

    assert (ready, families(desk)["stillframe_ready"].samples[0].value) == (1, 0)
    assert (build["model"], build["family"], build["dtype"], build["device"]) == ("echo", "openvla", "float32", "cpu")
    assert build["version"]


@pytest.mark.parametrize("control_hz", [100, 50, 40, 25, 20, 10, 5, 2, 1])
def test_control_periods_are_bucket_edges(control_hz):
    """How many frames were in time for a control rate can be read without interpolation."""
    assert 1 / control_hz in LATENCY_BUCKETS_S


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (Unprocessable("image-invalid", ""), Outcome.REJECTED),
        (NotReady("draining", ""), Outcome.REFUSED),
        (DeadlineExceeded("deadline-exceeded", ""), Outcome.EXPIRED),
        (Internal("internal", ""), Outcome.FAILED),
    ],
)
def test_outcomes_follow_the_status(error, expected):
    """Whose fault it was decides the outcome."""
    assert outcome_of(error.status) is expected


def test_an_abandoned_frame_is_counted(desk):
    """A request that is cancelled counts as abandoned and as nothing else."""
    metrics = Metrics(type(desk.registry)())
    with pytest.raises(KeyboardInterrupt), metrics.frame("/act"):
        raise KeyboardInterrupt
    text = metrics.exposition(version="0", ready=False, info=None).decode()

    assert 'stillframe_frames_total{outcome="abandoned"} 1.0' in text
    assert 'stillframe_frames_total{outcome="failed"} 0.0' in text


def test_stage_times_are_in_seconds(desk):
    """A report in milliseconds is recorded in seconds."""
    metrics = Metrics(type(desk.registry)())
    metrics.step(StepReport({"decode": 1500.0}, passes=7))
    text = metrics.exposition(version="0", ready=False, info=None).decode()

    assert 'stillframe_stage_duration_seconds_sum{stage="decode"} 1.5' in text
