from __future__ import annotations

import pytest
from prometheus_client import CollectorRegistry
from prometheus_client.parser import text_string_to_metric_families

from stillframe.domain import (
    REUSE_MODES,
    CacheReport,
    ConnectionReport,
    DraftReport,
    GpuMemory,
    HistoryReport,
    KeyframeReason,
    PassCounts,
    Scored,
    SlackReport,
    StepReport,
)
from stillframe.errors import DeadlineExceeded, Flaw, Internal, NotReady, Unprocessable
from stillframe.metrics import LATENCY_BUCKETS_S, Metrics, Outcome, outcome_of
from stillframe.metrics.buckets import DRIFT_BUCKETS

NAMES = {
    "stillframe_frame_duration_seconds",
    "stillframe_stage_duration_seconds",
    "stillframe_frames",
    "stillframe_rejected",
    "stillframe_refused_actions",
    "stillframe_queue_depth",
    "stillframe_queue_wait_seconds",
    "stillframe_device_busy_seconds",
    "stillframe_passes_per_action",
    "stillframe_batch_frames",
    "stillframe_rtc_frames",
    "stillframe_draft_accepted_tokens",
    "stillframe_ready",
    "stillframe_build_info",
    "stillframe_reuse_ratio",
    "stillframe_keyframes",
    "stillframe_reused_age_frames",
    "stillframe_relevant_ratio",
    "stillframe_caution",
    "stillframe_drift",
    "stillframe_chunk_drift",
    "stillframe_drift_budget",
    "stillframe_audit_drift",
    "stillframe_audit_seconds",
    "stillframe_slack_seconds",
    "stillframe_slack_yield_seconds",
    "stillframe_kv_in_use_bytes",
    "stillframe_kv_budget_bytes",
    "stillframe_kv_sessions",
    "stillframe_shadow_drift",
    "stillframe_shadow_frames",
    "stillframe_shadow_seconds",
    "stillframe_shadow_yield_seconds",
    "stillframe_history_utility",
    "stillframe_history_chunks",
    "stillframe_history_chunks_held",
    "stillframe_history_bytes",
    "stillframe_sessions",
    "stillframe_sessions_limit",
    "stillframe_session_ends",
    "stillframe_sessions_refused",
    "stillframe_superseded",
    "stillframe_replayed",
    "stillframe_connections",
    "stillframe_watchdog_fired",
    "stillframe_live_watchers",
    "stillframe_live_watchers_refused",
    "stillframe_live_pictures",
}
WHOLE = CacheReport("off", KeyframeReason.OFF, 0.0, 0, 20, 0, 0)


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
    metrics.step(StepReport({"decode": 1500.0}, 7, WHOLE))
    text = metrics.exposition(version="0", ready=False, info=None).decode()

    assert 'stillframe_stage_duration_seconds_sum{stage="decode"} 1.5' in text


def test_reuse_is_counted(desk, frame):
    """Keyframes count under their reason, delta frames under their age; both in the ratio of their mode."""
    for _ in range(3):
        desk.act({**frame, "session_id": "arm"})
    desk.act(frame)

    assert desk.sample("stillframe_keyframes_total", reason="first-frame") == 1
    assert desk.sample("stillframe_keyframes_total", reason="stateless") == 1
    assert desk.sample("stillframe_reuse_ratio_count", mode="adaptive") == 3
    assert desk.sample("stillframe_reuse_ratio_sum", mode="adaptive") == 1.0
    assert desk.sample("stillframe_reuse_ratio_bucket", mode="adaptive", le="0.0") == 1
    assert desk.sample("stillframe_reuse_ratio_count", mode="off") == 1
    assert desk.sample("stillframe_reused_age_frames_count") == 2
    assert desk.sample("stillframe_reused_age_frames_sum") == 3


def test_what_a_plan_was_like_is_counted():
    """Of delta frames: which share the task kept from being reused, and how far drift had tightened the thresholds."""
    metrics = Metrics(registry := CollectorRegistry())
    delta = CacheReport("adaptive", None, 0.5, 140, 200, 1000, age_max=3, relevant_tokens=30, caution=0.4)
    for cache in (delta, WHOLE):
        metrics.step(StepReport({}, 1, cache))

    assert registry.get_sample_value("stillframe_relevant_ratio_count") == 1
    assert registry.get_sample_value("stillframe_relevant_ratio_sum") == 0.15
    assert registry.get_sample_value("stillframe_caution_count") == 1
    assert registry.get_sample_value("stillframe_caution_sum") == 0.4


def test_the_devices_time_is_counted_once():
    """Frames of a batch share its time, and waiting is none of it; refreshes and audits count for themselves."""
    metrics = Metrics(registry := CollectorRegistry())
    for waited_ms in (0.0, 40.0):
        metrics.step(StepReport({"queue": waited_ms, "vision": 20.0, "prefill": 30.0}, 1, WHOLE, batch=2))
    metrics.slack(SlackReport(25.0, drift=None))
    metrics.slack(SlackReport(5.0, drift=None, audit=True))
    busy_s = {
        work: registry.get_sample_value("stillframe_device_busy_seconds_total", {"work": work})
        for work in ("frames", "refreshes", "audits")
    }

    assert busy_s == pytest.approx({"frames": 0.05, "refreshes": 0.025, "audits": 0.005})


def test_waits_are_told_apart_by_who_waits(desk, frame):
    """By whether the robot said that it had actions left to play; a repeat waited for nothing."""
    for slack_ms in (200, 0, None):
        desk.act({**frame, "session_id": "arm", "slack_ms": slack_ms})
    for _ in range(2):
        desk.act({**frame, "session_id": "arm", "seq": 7, "slack_ms": 50})

    assert desk.sample("stillframe_queue_wait_seconds_count", actions_left="yes") == 2
    assert desk.sample("stillframe_queue_wait_seconds_count", actions_left="no") == 2


def test_history_is_counted(new_desk, frame):
    """Chunks' utilities as they were scored, those kept and dropped, and what all sessions hold now; of no repeat."""
    scored = Scored((0.05, 0.95), kept=1, dropped=2)
    desk = new_desk(history=HistoryReport(held=3, slots=6, kept=9, dropped=6, nbytes=300, frame=scored))
    for session in ("left", "left", "right"):
        desk.act({**frame, "session_id": session, "seq": 0})
    desk.act(frame)
    desk.ask("GET", "/metrics")

    assert desk.sample("stillframe_history_utility_count") == 4
    assert desk.sample("stillframe_history_utility_bucket", le="0.1") == 2
    assert desk.sample("stillframe_history_chunks_total", fate="kept") == 2
    assert desk.sample("stillframe_history_chunks_total", fate="dropped") == 4
    assert desk.sample("stillframe_history_chunks_held") == 6
    assert desk.sample("stillframe_history_bytes") == 600


def test_every_reason_and_mode_starts_at_zero(desk):
    """A rate over a reason that has not occurred yet is 0, not missing."""
    fates = [desk.sample("stillframe_history_chunks_total", fate=fate) for fate in ("kept", "dropped")]
    reasons = [desk.sample("stillframe_keyframes_total", reason=reason.value) for reason in KeyframeReason]
    modes = [desk.sample("stillframe_reuse_ratio_count", mode=mode) for mode in REUSE_MODES]

    assert {*reasons, *modes, *fates} == {0}


def test_a_pause_is_recorded(desk):
    """Its time counts always; drift and the wait it caused count where they are known."""
    metrics = Metrics(registry := type(desk.registry)(), drift_budget=0.05)
    metrics.slack(SlackReport(20.0, drift=0.0157))
    metrics.slack(SlackReport(5.0, drift=None, yield_ms=2.0))

    assert registry.get_sample_value("stillframe_slack_seconds_count") == 2
    assert registry.get_sample_value("stillframe_slack_seconds_sum") == pytest.approx(0.025)
    assert registry.get_sample_value("stillframe_drift_count") == 1
    assert registry.get_sample_value("stillframe_drift_sum") == 0.0157
    assert registry.get_sample_value("stillframe_slack_yield_seconds_count") == 1
    assert registry.get_sample_value("stillframe_slack_yield_seconds_sum") == 0.002
    assert registry.get_sample_value("stillframe_drift_budget") == 0.05


def test_an_audit_is_recorded_by_itself(desk):
    """Its drift is of an answer that was not given, and its time no pause's."""
    metrics = Metrics(registry := type(desk.registry)())
    metrics.slack(SlackReport(20.0, drift=0.0157, audit=True))
    metrics.slack(SlackReport(5.0, drift=None, yield_ms=2.0, audit=True))

    assert registry.get_sample_value("stillframe_slack_yield_seconds_count") == 0
    assert registry.get_sample_value("stillframe_audit_seconds_count") == 2
    assert registry.get_sample_value("stillframe_audit_seconds_sum") == pytest.approx(0.025)
    assert registry.get_sample_value("stillframe_audit_drift_count") == 1
    assert registry.get_sample_value("stillframe_audit_drift_sum") == 0.0157
    assert registry.get_sample_value("stillframe_slack_seconds_count") == 0
    assert registry.get_sample_value("stillframe_drift_count") == 0


@pytest.mark.parametrize(
    ("drifts", "quarters"),
    [
        ((0.5, 0.0, 0.1, 0.2, 0.0, 0.3, 0.7, 0.4), [0.5, 0.2, 0.3, 0.7]),  # eight actions, two to a quarter
        ((0.1, 0.2, 0.3, 0.4, 0.5), [0.1, 0.2, 0.3, 0.5]),  # each action is of one quarter
        ((0.1, 0.2, 0.3), [None] * 4),  # too few
        ((0.1,), [None] * 4),
    ],
)
def test_drift_is_counted_by_quarter_of_the_chunk(desk, drifts, quarters):
    """Four series whatever the horizon, each the worst of its actions; a preempted pause counts in none."""
    metrics = Metrics(registry := type(desk.registry)())
    metrics.slack(SlackReport(20.0, max(drifts), by_action=drifts))
    metrics.slack(SlackReport(5.0, drift=None))
    found = [registry.get_sample_value("stillframe_chunk_drift_sum", {"quarter": name}) for name in "1234"]
    counts = {registry.get_sample_value("stillframe_chunk_drift_count", {"quarter": name}) for name in "1234"}

    assert found == quarters
    assert counts == {None if quarters[0] is None else 1}
    assert registry.get_sample_value("stillframe_drift_sum") == max(drifts)


def test_small_drifts_are_told_apart():
    """Action tokens drift by whole bins of 2 / 255: up to four, each has a bucket of its own and is near no edge."""
    drifts = [bins * 2 / 255 for bins in range(5)]
    buckets = [min(edge for edge in DRIFT_BUCKETS if edge > drift) for drift in drifts]

    assert len(set(buckets)) == 5
    assert all(abs(drift - edge) > 0.002 for drift in drifts for edge in DRIFT_BUCKETS)


def test_the_memory_of_sessions_is_read_at_the_scrape(desk, frame):
    """What the policy says of its pool, when it is asked."""
    before = families(desk)["stillframe_kv_in_use_bytes"].samples[0].value
    for name in ("left", "right"):
        desk.act({**frame, "session_id": name})
    after = families(desk)

    assert before == 0
    assert after["stillframe_kv_in_use_bytes"].samples[0].value == 2000
    assert after["stillframe_kv_budget_bytes"].samples[0].value == 64_000
    assert after["stillframe_kv_sessions"].samples[0].value == 2


def test_no_label_names_a_session(desk, frame):
    """However many robots there are, the series stay as many."""
    desk.act({**frame, "session_id": "the-first-arm"})
    before = len(desk.ask("GET", "/metrics").text.splitlines())
    for arm in range(20):
        desk.act({**frame, "session_id": f"arm-{arm}"})
    text = desk.ask("GET", "/metrics").text

    assert "arm-" not in text
    assert len(text.splitlines()) == before


def test_accepted_guesses_are_counted_by_draft_and_way() -> None:
    """How many of a frame's guesses were right; without drafts nothing is counted."""
    registry = CollectorRegistry()
    metrics = Metrics(registry)
    for draft in (
        DraftReport("exact", "previous", 3),
        DraftReport("strict", "previous", 2),
        DraftReport("relaxed", "steady", 7),
        DraftReport("off", "still", 0),
    ):
        metrics.step(StepReport({}, 2, WHOLE, draft))
    name = "stillframe_draft_accepted_tokens"
    exact, relaxed = ({"draft": "exact", "way": "previous"}, {"draft": "relaxed", "way": "steady"})

    assert registry.get_sample_value(f"{name}_sum", exact) == 3
    assert registry.get_sample_value(f"{name}_bucket", {**exact, "le": "2.0"}) == 0
    assert registry.get_sample_value(f"{name}_sum", {**exact, "draft": "strict"}) == 2
    assert registry.get_sample_value(f"{name}_sum", relaxed) == 7
    assert registry.get_sample_value(f"{name}_count", {"draft": "off", "way": "still"}) is None


def test_a_gpus_passes_are_read_at_the_scrape() -> None:
    """Replayed and eager ones, by each reason from nought on; where there is nothing to read, nothing is shown."""
    metrics = Metrics(CollectorRegistry())
    counts: list[PassCounts] = []
    metrics.passes(lambda: counts[-1] if counts else None)
    before = metrics.exposition(version="0", ready=False).decode()
    counts.append(PassCounts(replays=5))
    counts[-1].ran("layers")
    after = metrics.exposition(version="0", ready=False).decode()
    counts[-1].replays += 1
    later = metrics.exposition(version="0", ready=False).decode()

    assert "graph_replays" not in before
    assert "eager_passes" not in before
    assert "stillframe_graph_replays_total 5.0" in after
    assert 'stillframe_eager_passes_total{reason="layers"} 1.0' in after
    assert 'stillframe_eager_passes_total{reason="rows"} 0.0' in after
    assert "stillframe_graph_replays_total 6.0" in later


def test_a_gpus_memory_is_read_at_the_scrape() -> None:
    """As it is then; where there is none to read, nothing is shown."""
    metrics = Metrics(CollectorRegistry())
    memory: list[GpuMemory] = []
    metrics.gpu_memory(lambda: memory[-1] if memory else None)
    before = metrics.exposition(version="0", ready=False).decode()
    memory.append(GpuMemory(allocated=1, reserved=20, free=300, total=4000))
    first = metrics.exposition(version="0", ready=False).decode()
    memory.append(GpuMemory(allocated=2, reserved=20, free=300, total=4000))
    later = metrics.exposition(version="0", ready=False).decode()

    assert "gpu_memory" not in before
    for name, value in (("allocated", 1), ("reserved", 20), ("free", 300), ("total", 4000)):
        assert f"stillframe_gpu_memory_{name}_bytes {value}.0" in first.splitlines()
    assert "stillframe_gpu_memory_allocated_bytes 2.0" in later.splitlines()


def test_what_was_no_action_is_counted_by_its_flaw(desk):
    """From nought on, each of them."""
    metrics = Metrics(registry := type(desk.registry)())
    for flaw in (Flaw.FLAT, Flaw.FLAT, Flaw.OUT_OF_RANGE):
        metrics.refused(flaw)
    counts = {
        flaw: registry.get_sample_value("stillframe_refused_actions_total", {"reason": flaw.value}) for flaw in Flaw
    }

    assert counts == {**dict.fromkeys(Flaw, 0), Flaw.FLAT: 2, Flaw.OUT_OF_RANGE: 1}


def test_lines_that_the_log_lost_are_shown_as_they_are(desk):
    """Somebody else counts them."""
    lost = [0]
    Metrics(registry := type(desk.registry)()).log_lines(lambda: lost[0])
    before = registry.get_sample_value("stillframe_log_lines_lost_total")
    lost[0] = 7

    assert (before, registry.get_sample_value("stillframe_log_lines_lost_total")) == (0, 7)


def test_connections_are_counted(desk):
    """Open, limit, refused, displaced, cut by the bound that was broken, and requests beyond the rate."""
    metrics = Metrics(type(desk.registry)())
    metrics.connected(lambda: ConnectionReport(7, 1024, 3, 5, {"too-slow": 2}, 11))
    text = metrics.exposition(version="0", ready=False, info=None).decode()

    for line in (
        "stillframe_tcp_connections 7.0",
        "stillframe_tcp_connections_limit 1024.0",
        "stillframe_tcp_connections_refused_total 3.0",
        "stillframe_tcp_connections_displaced_total 5.0",
        'stillframe_tcp_connections_cut_total{reason="too-slow"} 2.0',
        'stillframe_tcp_connections_cut_total{reason="malformed"} 0.0',
        "stillframe_rate_limited_total 11.0",
    ):
        assert line in text.splitlines()
