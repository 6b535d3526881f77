"""Audits: a keyframe brought forward, and beside it, once it is answered, the delta that it replaced."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from stillframe.domain import KeyframeReason, Observation, SessionRef
from stillframe.engine.audit import run_audit
from stillframe.engine.audit_budget import MOST_SAVED_S, AuditBudget
from stillframe.engine.drift import BLIND_ANSWERS, STEP_DOWN, STEP_UP
from stillframe.engine.requests import FrameRequest
from stillframe.engine.step import step
from stillframe.errors import Internal

Make = Callable[..., Any]
WAIT_S = 60  # for what has to happen; no test waits this long unless it fails
ROWS, WHOLE = 21, 21  # of a toy's prompt
INTERVAL = 20  # frames from keyframe to keyframe, unless one is brought forward


@pytest.fixture
def audited(robots: Make, picture: Make, changed: Make) -> Make:
    """A robot whose last frame is to be audited, and all its frames."""

    def make(**knobs: Any) -> tuple[Any, list[Any]]:
        bench, frames = robots(**{"keyframe_every": INTERVAL, **knobs}), []
        for number in range(INTERVAL):
            bench.core.scheduler.audits.earn(100.0)
            frames.append(changed(picture(0), 0, 6, seed=number))
            bench.see(frames[-1])
            if bench.core.cache.audit is not None:
                return bench, frames
        raise AssertionError("no keyframe was brought forward")

    return make


def drift_between(one: Any, other: Any) -> float:
    """Of the last answers."""
    return float(np.abs(one.steps[-1].chunk.actions - other.steps[-1].chunk.actions).max())


def test_an_audit_measures_the_delta_that_the_keyframe_replaced(audited: Make, robots: Make) -> None:
    """What would have been answered is what a twin without audits answers; its distance from what was is the drift."""
    bench, frames = audited()
    twin = robots(keyframe_every=INTERVAL, audit_share=0.0)
    for frame in frames:
        twin.see(frame)
    report = run_audit(bench.core, bench.core.cache.take_audit())

    assert bench.steps[-1].report.cache.keyframe_reason is KeyframeReason.AGE
    assert twin.steps[-1].report.cache.keyframe_reason is None
    assert report.drift == pytest.approx(drift_between(bench, twin))
    assert report.drift > 0
    assert report.audit
    assert report.by_action == (report.drift,)


def test_the_answer_beside_an_audit_is_the_dense_one(audited: Make) -> None:
    """And the session goes on from the dense pass, whose keys and values no audit touches."""
    bench, frames = audited()
    dense = bench.steps[-1].chunk.tokens.tolist()
    held = bench.held(bench.session("a").reuse.kv, ROWS)
    run_audit(bench.core, bench.core.cache.take_audit())

    assert torch.equal(bench.held(bench.session("a").reuse.kv, ROWS), held)
    assert bench.session("a").reuse.since_dense == 0
    assert bench.core.cache.slots.spare is not bench.session("a").reuse.kv
    assert dense == bench.tokens(frames[-1])


def test_nothing_is_audited_while_drift_is_known(robots: Make, picture: Make, changed: Make) -> None:
    """A robot that is measured in its pauses keeps its keyframes where they are due."""
    bench = robots(keyframe_every=INTERVAL)
    bench.core.scheduler.audits.earn(100.0)
    for number in range(BLIND_ANSWERS * 3):
        bench.see(changed(picture(0), 0, seed=number))
        bench.refresh()

    assert [step.report.cache.frame for step in bench.steps[1:]] == ["delta"] * (BLIND_ANSWERS * 3 - 1)
    assert bench.session("a").unmeasured == 0


@pytest.mark.parametrize("mode", ["paper", "static-only", "exact", "off"])
def test_other_modes_are_not_audited(robots: Make, picture: Make, mode: str) -> None:
    """Nothing steers them, so nothing is to be learnt."""
    bench = robots(mode, paper_k=None)
    bench.core.scheduler.audits.earn(100.0)
    for _ in range(3 * BLIND_ANSWERS):
        bench.see(picture(0))

    assert bench.core.cache.audit is None
    assert bench.session("a").audits == 0


def test_without_time_for_audits_there_are_none(robots: Make, picture: Make) -> None:
    """No keyframe is brought forward for what could not be run."""
    bench = robots(keyframe_every=INTERVAL)
    for _ in range(INTERVAL):
        bench.see(picture(0))

    assert [step.report.cache.frame for step in bench.steps] == ["keyframe"] + ["delta"] * (INTERVAL - 1)


def test_audits_see_deltas_of_all_ages(robots: Make, picture: Make) -> None:
    """The frames from the last dense pass to the one that is brought forward spread over the interval."""
    bench, ages, since = robots(keyframe_every=INTERVAL), [], 0
    for _ in range(20 * INTERVAL):
        bench.core.scheduler.audits.earn(100.0)
        bench.see(picture(0))
        audit, since = bench.core.cache.take_audit(), since + 1
        if audit is not None:
            ages.append(since)
            run_audit(bench.core, audit)
        if bench.steps[-1].report.cache.frame == "keyframe":
            since = 0

    halves = [sum(age <= INTERVAL / 2 for age in ages), sum(age > INTERVAL / 2 for age in ages)]
    assert min(halves) >= len(ages) / 4
    assert max(ages) < INTERVAL
    assert len(set(ages)) > INTERVAL / 2


@pytest.mark.parametrize(
    ("budget", "change"), [(0.0, 0.95 * STEP_UP - 0.05 * STEP_DOWN), (2.0, -STEP_DOWN)], ids=["over", "within"]
)
def test_caution_follows_an_audit(audited: Make, budget: float, change: float) -> None:
    """As far as deltas are among the answers: of an interval of twenty all but the keyframe."""
    bench, *_ = audited(drift_budget=budget)
    session = bench.session("a")
    session.caution.level = 0.0
    audit = replace(bench.core.cache.take_audit(), share=0.95)
    session.caution.level = 0.5
    run_audit(bench.core, audit)

    assert session.caution.level == pytest.approx(0.5 + change)
    assert session.unmeasured == 0


def test_what_an_audit_took_is_spent_and_told(audited: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    """In milliseconds, also where what it gave is no action."""
    bench, *_ = audited()
    before_s, audit, act = bench.core.scheduler.audits.credit_s, bench.core.cache.take_audit(), bench.model.act

    def acting(*parts: Any) -> Any:
        bench.clock.now_s += 0.006
        return act(*parts)

    monkeypatch.setattr(bench.model, "act", acting)
    report = run_audit(bench.core, audit)
    monkeypatch.setattr(bench.core.cache, "refusal", lambda *_, **__: Internal("not-an-action", "no action"))
    with pytest.raises(Internal, match="no action"):
        run_audit(bench.core, audit)

    assert report.duration_ms == pytest.approx(6)
    assert before_s - bench.core.scheduler.audits.credit_s == pytest.approx(0.012)


def test_a_batch_has_one_audit(robots: Make, picture: Make) -> None:
    """There is one spare slot: of two robots that are due the other's frame stays the delta that it was."""
    bench = robots(keyframe_every=INTERVAL)
    reasons = []
    for seq in range(INTERVAL):
        bench.core.scheduler.audits.earn(100.0)
        asked = [
            FrameRequest(Observation({"front": picture(0)}, "reach"), SessionRef(robot, seq=seq)) for robot in "ab"
        ]
        reasons = [answer.report.cache.keyframe_reason for answer in step(bench.core, asked)]
        if bench.core.cache.audit is not None:
            break

    assert sorted(reasons, key=str) == [None, KeyframeReason.AGE]
    assert bench.session("b").unmeasured + bench.session("a").unmeasured > BLIND_ANSWERS


def test_the_next_batch_drops_an_audit_that_was_not_run(audited: Make, picture: Make) -> None:
    """The spare slot is that batch's: what was to be audited is not there any more."""
    bench, *_ = audited()
    bench.see(picture(1), None)

    assert bench.core.cache.take_audit() is None


def test_a_refresh_drops_an_audit_that_was_not_run(audited: Make, picture: Make) -> None:
    """It takes the spare slot as well."""
    bench, *_ = audited()
    audit = bench.core.cache.audit
    bench.see(picture(0))
    bench.core.cache.audit = audit
    bench.refresh()

    assert bench.core.cache.take_audit() is None


def test_a_failed_batch_leaves_the_session_its_own_slot(robots: Make, picture: Make) -> None:
    """The keyframe that was to be audited failed: nothing is swapped, nothing audited, and the next is a keyframe."""
    bench = robots(keyframe_every=INTERVAL)
    own = None
    for _ in range(INTERVAL):
        bench.core.scheduler.audits.earn(100.0)
        bench.model.broken = RuntimeError("no memory") if bench.core.cache.sessions.known("a") and _due(bench) else None
        if bench.model.broken is not None:
            own = bench.session("a").reuse.kv
            with pytest.raises(RuntimeError, match="no memory"):
                bench.see(picture(0))
            break
        bench.see(picture(0))

    assert bench.core.cache.audit is None
    assert bench.session("a").reuse.kv is own
    assert bench.core.cache.slots.spare is not own
    assert bench.see(picture(0)).report.cache.keyframe_reason is KeyframeReason.INTEGRITY


def _due(bench: Any) -> bool:
    session = bench.session("a")
    return session.unmeasured >= BLIND_ANSWERS and session.reuse.since_dense >= int(0.618034 * (INTERVAL - 1))


def test_a_delta_that_is_no_action_is_refused(audited: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    """It was not answered, and is counted as what it would have been; caution learns nothing of it."""
    bench, *_ = audited()
    session = bench.session("a")
    unmeasured = session.unmeasured
    refusal = Internal("not-an-action", "no action")
    monkeypatch.setattr(bench.core.cache, "refusal", lambda *_, **__: refusal)

    with pytest.raises(Internal, match="no action"):
        run_audit(bench.core, bench.core.cache.take_audit())
    assert session.unmeasured == unmeasured


@pytest.fixture
def busy(desk: Make, picture: Make, changed: Make) -> Make:
    """A desk without pauses, whose robot's next frame is to be audited; and that frame."""

    def make(**knobs: Any) -> tuple[Any, Callable[[int], Any]]:
        one = desk(slack=False, **knobs)

        def see(seq: int) -> Any:
            one.engine._core.scheduler.audits.earn(100.0)
            return one.submit(changed(picture(0), 3, seed=seq), SessionRef("a", seq=seq))

        return one, see

    return make


def audited_at(one: Any, see: Callable[[int], Any]) -> int:
    """Play until a keyframe is audited; which it was."""
    for seq in range(40):
        answer = see(seq).result(WAIT_S)
        if seq and answer.report.cache.frame == "keyframe":
            return seq
    raise AssertionError(one.model.passes)


def test_an_engine_audits_and_tells(busy: Make) -> None:
    """Without pauses, and without being asked: the delta's pass comes right behind the keyframe's."""
    one, see = busy()
    audited_at(one, see)
    report = one.reports.get(timeout=WAIT_S)

    assert report.audit
    assert report.drift is not None
    assert one.reports.empty()
    assert one.model.passes[-2] == WHOLE > one.model.passes[-1]


def test_the_answer_goes_out_before_its_audit(busy: Make) -> None:
    """While the audit's pass is held up the answer is there; the next frame waits for it, and it is run to its end."""
    other, see_other = busy()
    passes = len(_passes_until(other, see_other))
    one, see = busy()
    gate = one.hold(passes - 1)
    answer = None
    for seq in range(passes - 1):
        answer = see(seq)
        assert answer.result(WAIT_S)
    assert gate.entered.wait(WAIT_S)

    assert answer is not None
    assert answer.result(0).report.cache.frame == "keyframe"
    assert one.reports.empty()
    waits = see(passes)
    gate.opened.set()
    report = one.reports.get(timeout=WAIT_S)

    assert report.audit
    assert report.drift is not None
    assert waits.result(WAIT_S).report.cache.frame == "delta"


def _passes_until(one: Any, see: Callable[[int], Any]) -> list[int]:
    """Rows of each pass up to the first audit's."""
    audited_at(one, see)
    one.reports.get(timeout=WAIT_S)
    return [*one.model.passes]


def test_a_failing_audit_is_logged_and_frames_go_on(busy: Make, caplog: pytest.LogCaptureFixture) -> None:
    """Whatever it raises: its frame is answered, and so are those that come."""
    one, see = busy()
    passes = len(_passes_until(*busy()))
    act, calls = one.model.act, iter(range(1000))

    def acting(*parts: Any) -> Any:
        if next(calls) == passes - 1:
            raise RuntimeError("spoilt")
        return act(*parts)

    one.model.act = acting
    with caplog.at_level(logging.ERROR, "engine-test"):
        answers = [see(seq).result(WAIT_S) for seq in range(passes + 1)]

    assert all(np.isfinite(answer.chunk.actions).all() for answer in answers)
    assert "an audit failed" in caplog.text
    assert one.reports.empty()


def test_what_was_done_beside_an_answer_is_told_with_the_next(desk: Make, picture: Make, changed: Make) -> None:
    """The device's time for a refresh, in milliseconds; with the answer after that there is nothing to tell."""
    one = desk()
    gate = one.hold(2)
    answers = [one.see(picture(0)), one.see(changed(picture(0), 3))]
    assert gate.entered.wait(WAIT_S)
    one.clock.now_s += 0.25
    gate.opened.set()
    report = one.reports.get(timeout=WAIT_S)
    answers += [one.see(picture(0))]

    assert report.duration_ms == pytest.approx(250)
    assert [answer.report.cache.beside_ms for answer in answers] == [0, 0, pytest.approx(250)]


@given(
    st.floats(0, 0.5),
    st.lists(st.tuples(st.floats(0, 3), st.floats(0, 0.5), st.booleans()), max_size=60),
)
def test_audits_take_their_share_and_no_more(share: float, played: list[tuple[float, float, bool]]) -> None:
    """Over any stretch of frames, however they come: their share of the frames' time, what was saved, and one more."""
    budget, ran = AuditBudget(share), []
    for computed_s, audit_s, wanted in played:
        budget.earn(computed_s)
        spent = audit_s if wanted and budget.allows else 0.0
        budget.spend(spent)
        ran.append((computed_s, spent))

    for first in range(len(ran)):
        computed, spent = (sum(column) for column in zip(*ran[first:], strict=True))
        assert spent <= share * computed + MOST_SAVED_S + 0.5 + 1e-9
