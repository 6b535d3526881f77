from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from stillframe.domain import KeyframeReason
from stillframe.engine.local import LocalPolicy
from stillframe.errors import ConfigError, Unprocessable
from stillframe.reuse.settings import AdaptiveSettings, ReuseSettings

if TYPE_CHECKING:
    from stillframe.models.base import PolicyModel


@pytest.fixture(scope="module")
def policy(golden_model: PolicyModel) -> LocalPolicy:
    """The micro OpenVLA as a function."""
    return LocalPolicy(golden_model)


@pytest.mark.parametrize("camera", ["front", "image"])
def test_the_answer_is_the_references(policy: LocalPolicy, goldens: Mapping[str, Any], camera: str) -> None:
    """One action [7] in float64, equal to the bit, whatever the one camera is called and whatever came before."""
    for golden in goldens.values():
        action = policy({"images": {camera: golden.picture}, "instruction": golden.instruction})

        assert action.dtype == np.float64
        assert np.array_equal(action, golden.action)


def test_what_the_checkpoint_cannot_serve_is_refused(policy: LocalPolicy, goldens: Mapping[str, Any]) -> None:
    """As the daemon refuses it: two pictures for a policy of one camera."""
    picture = goldens["f0"].picture

    with pytest.raises(Unprocessable, match="exactly one picture"):
        policy({"images": {"front": picture, "wrist": picture}, "instruction": "wait"})


def observed(golden: Any) -> dict[str, Any]:
    """One golden frame, as a robot sends it."""
    return {"images": {"front": golden.picture}, "instruction": golden.instruction}


def reusing(mode: Any, **adaptive: Any) -> ReuseSettings:
    """A deployment's settings, with room for one robot."""
    return ReuseSettings(mode=mode, kv_budget_mib=8, adaptive=AdaptiveSettings(**adaptive))


def test_nothing_is_reused_unless_asked_for(policy: LocalPolicy, goldens: Mapping[str, Any]) -> None:
    """Every frame is whole, the same one twice as well; the report has the walk's stages and the passes.

    Only what is guessed is what the session did last: the same again takes one pass.
    """
    policy.reset()
    passes = []
    for _ in range(2):
        policy(observed(goldens["f0"]))
        report = policy.last.report
        assert (report.cache.mode, report.cache.keyframe_reason) == ("off", KeyframeReason.OFF)
        assert report.cache.reuse_ratio == policy.plan.reuse_ratio == 0
        assert list(report.stages_ms)[:6] == ["queue", "prepare", "vision", "plan", "prefill", "decode"]
        passes.append(report.passes)
    assert 1 < passes[0] <= 7
    assert passes[1] == 1
    assert policy.refresh() is None


def test_exact_answers_as_the_reference_does(golden_model: PolicyModel, goldens: Mapping[str, Any]) -> None:
    """Over a walk of frames, some of them repeated: equal to the bit, and repeated frames cost the text alone."""
    exact = LocalPolicy(golden_model, reusing("exact"))
    reused = []
    for name in ("f0", "f0", "f1", "f1", "f1", "f0"):
        assert np.array_equal(exact(observed(goldens[name])), goldens[name].action)
        reused.append(exact.last.report.cache.reused_tokens)
        assert exact.refresh() is None

    assert reused == [0, 257, 1, 257, 257, 1]


def test_adaptive_reuses_what_stands_still_and_measures(golden_model: PolicyModel, goldens: Mapping[str, Any]) -> None:
    """A keyframe, then delta frames; a pause after a delta frame tells its drift: none, for the same picture."""
    adaptive = LocalPolicy(golden_model, reusing("adaptive", task_top_k=40, top_k=100))
    assert np.array_equal(adaptive(observed(goldens["f0"])), goldens["f0"].action)
    assert adaptive.refresh() is None
    assert adaptive.last.report.cache.keyframe_reason is KeyframeReason.FIRST_FRAME

    assert np.array_equal(adaptive(observed(goldens["f0"])), goldens["f0"].action)
    plan, report = adaptive.plan, adaptive.last.report
    assert report.cache.keyframe_reason is None
    assert (report.cache.reused_tokens, report.cache.age_max) == (101, 1)
    assert report.cache.reuse_ratio == plan.reuse_ratio == pytest.approx(101 / plan.rows)
    assert (int(plan.static.sum()), int(plan.relevant.sum())) == (256, 40)
    assert not plan.relevant[plan.patches].any()
    slack = adaptive.refresh()
    assert slack is not None
    assert slack.drift == 0
    assert slack.duration_ms > 0
    assert adaptive.refresh() is None


def test_a_changed_picture_is_answered_as_the_reference_does(
    golden_model: PolicyModel, goldens: Mapping[str, Any]
) -> None:
    """Another scene: too little stands still, so it is computed whole, under the right name."""
    adaptive = LocalPolicy(golden_model, reusing("adaptive", distance=0.001))
    adaptive(observed(goldens["f0"]))
    same_size = next(
        golden for golden in goldens.values() if golden.picture.shape == goldens["f0"].picture.shape
        and not np.array_equal(golden.picture, goldens["f0"].picture)
    )  # fmt: skip

    assert np.array_equal(adaptive(observed(same_size)), same_size.action)
    assert adaptive.last.report.cache.keyframe_reason is KeyframeReason.SCENE_CUT


def test_a_reset_begins_the_next_episode(golden_model: PolicyModel, goldens: Mapping[str, Any]) -> None:
    """Its first frame is whole; epochs and frames are counted from 0."""
    exact = LocalPolicy(golden_model, reusing("exact"))
    counted = []
    for _ in range(2):
        for _ in range(2):
            exact(observed(goldens["f0"]))
            cache = exact.last.report.cache
            counted.append((cache.epoch, cache.seq, cache.keyframe_reason))
        exact.reset()

    first, reset = KeyframeReason.FIRST_FRAME, KeyframeReason.RESET
    assert counted == [(0, 0, first), (0, 1, None), (1, 0, reset), (1, 1, None)]


def test_there_is_no_last_frame_before_the_first(golden_model: PolicyModel) -> None:
    """Asking says so."""
    fresh = LocalPolicy(golden_model)

    with pytest.raises(RuntimeError, match="no frame has been answered"):
        _ = fresh.last
    with pytest.raises(RuntimeError, match="no frame has been planned"):
        _ = fresh.plan
    assert fresh.refresh() is None


def test_a_gap_is_measured_by_the_clock_that_was_passed_in(
    golden_model: PolicyModel, goldens: Mapping[str, Any]
) -> None:
    """As an evaluation does that runs faster or slower than its robot."""
    now_s = 0.0
    exact = LocalPolicy(golden_model, reusing("exact"), clock=lambda: now_s)
    reasons = []
    for now_s in (0.0, 2.0, 4.1):  # noqa: B007 (read by the clock)
        exact(observed(goldens["f0"]))
        reasons.append(exact.last.report.cache.keyframe_reason)

    assert reasons == [KeyframeReason.FIRST_FRAME, None, KeyframeReason.GAP]


def test_settings_that_do_not_fit_the_checkpoint_are_refused(golden_model: PolicyModel) -> None:
    """A layer that it does not have, a budget without room for one robot."""
    with pytest.raises(ConfigError, match=r"reuse\.adaptive\.relevance_layers is \[99\]"):
        LocalPolicy(golden_model, reusing("adaptive", relevance_layers=[99]))
    with pytest.raises(ConfigError, match=r"reuse\.kv_budget_mib is 0\.1; this checkpoint needs at least"):
        LocalPolicy(golden_model, ReuseSettings(kv_budget_mib=0.1))
