"""What the engine is like after sessions that ended, passes that failed and robots that left."""

from __future__ import annotations

import logging
import threading
import weakref
from collections.abc import Callable
from concurrent.futures import wait
from typing import Any

import pytest
import torch

from stillframe.domain import KeyframeReason, Observation, SessionRef
from stillframe.errors import DeadlineExceeded, Internal, Overloaded

Make = Callable[..., Any]
WAIT_S = 60  # for what has to happen; no test waits this long unless it fails
FIRST, EVICTED, INTEGRITY = KeyframeReason.FIRST_FRAME, KeyframeReason.EVICTED, KeyframeReason.INTEGRITY
SAYS = "reach the red cube"


def reason(step: Any) -> KeyframeReason | None:
    """Why a frame was whole."""
    cache = step.report.cache
    return None if cache.keyframe_reason is None else KeyframeReason(cache.keyframe_reason)


@pytest.mark.parametrize("slack", [True, False])
def test_an_idle_engine_forgets(desk: Make, picture: Make, *, slack: bool) -> None:
    """While its thread sleeps: the slot is free, and who comes back is a stranger. Others go on."""
    one = desk(slack=slack)
    one.see(picture(0))
    one.see(picture(0), "b")
    for robot in ("a", "nobody", "a"):
        one.engine.forget(robot)
    one.see(picture(0), None)  # behind the errands

    assert one.engine.usage.sessions == 1
    assert (reason(one.see(picture(0), "b")), reason(one.see(picture(0)))) == (None, FIRST)


def test_a_session_that_ends_during_its_step_is_answered_and_then_forgotten(desk: Make, picture: Make) -> None:
    """Behind its frames that were submitted before, and not behind those that come later."""
    one = desk()
    gate = one.hold(0)
    running, waiting = one.submit(picture(0)), one.submit(picture(0))
    assert gate.entered.wait(WAIT_S)
    one.engine.forget("a")
    later = one.submit(picture(0), SessionRef("a", serial=1))
    assert one.engine.usage.sessions == 0
    gate.opened.set()

    assert [reason(future.result(WAIT_S)) for future in (running, waiting, later)] == [FIRST, None, FIRST]
    assert one.engine.usage.sessions == 1


def test_a_pause_gives_way_to_a_session_that_ends(desk: Make, picture: Make) -> None:
    """Nothing is measured for a robot that is gone, and its slot is not kept until it were."""
    one = desk()
    gate = one.hold(2)
    one.see(picture(0))
    one.see(picture(0))
    assert gate.entered.wait(WAIT_S)
    one.engine.forget("a")
    gate.opened.set()
    report = one.reports.get(timeout=WAIT_S)
    one.see(picture(0), None)

    assert (report.drift, report.yield_ms) == (None, None)
    assert one.reports.empty()
    assert one.engine.usage.in_use_bytes == 0


def test_an_ended_session_that_waits_for_nothing_is_forgotten_after_the_close(desk: Make, picture: Make) -> None:
    """Nobody minds when it is too late."""
    one = desk()
    one.see(picture(0))
    one.engine.close()
    one.engine.forget("a")

    assert not one.engine.ready


def test_sessions_that_nobody_ends_are_bounded(desk: Make, picture: Make) -> None:
    """More than there are slots: the longest idle give theirs up, the last ones go on."""
    one = desk(slack=False)
    slots = one.engine.usage.slots
    robots = [f"robot {number}" for number in range(slots + 5)]
    for robot in robots:
        one.see(picture(0), robot)
    usage = one.engine.usage

    assert usage.sessions == slots
    assert usage.in_use_bytes == usage.budget_bytes
    assert [reason(one.see(picture(0), robot)) for robot in (robots[-1], robots[5], robots[4])] == [None, None, EVICTED]


OUT_OF_MEMORY = [
    torch.OutOfMemoryError("CUDA out of memory"),
    MemoryError("no room"),
    RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 4 bytes."),
]


@pytest.mark.parametrize("error", OUT_OF_MEMORY, ids=["gpu", "python", "cpu"])
def test_a_frame_without_memory_is_refused_and_others_are_served(
    desk: Make, picture: Make, error: Exception, caplog: pytest.LogCaptureFixture
) -> None:
    """Half-way through a delta frame: told to come again, logged; its session starts anew, another goes on."""
    one = desk(slack=False)
    for robot in "aabb":
        one.see(picture(0), robot)
    one.model.broken = error
    with caplog.at_level(logging.ERROR, "engine-test"):
        refused = one.submit(picture(0)).exception(WAIT_S)

    assert isinstance(refused, Overloaded)
    assert (refused.code, refused.retry_after_s) == ("out-of-memory", 1.0)
    assert str(error) in caplog.text
    assert [reason(one.see(picture(0), robot)) for robot in "bab"] == [None, INTEGRITY, None]
    assert reason(one.see(picture(0))) is None


@pytest.mark.parametrize("stage", ["prepare", "embed"])
def test_a_failure_before_storage_is_touched_costs_a_keyframe_too(desk: Make, picture: Make, stage: str) -> None:
    """Nobody foresaw it, so nobody knows what it did. The frame after that reuses again."""
    one = desk(slack=False)
    for _ in range(2):
        one.see(picture(0))
    whole, broken = getattr(one.model, stage), [RuntimeError("no")]

    def fail_once(*parts: Any) -> Any:
        if broken:
            raise broken.pop()
        return whole(*parts)

    setattr(one.model, stage, fail_once)

    assert isinstance(one.submit(picture(1)).exception(WAIT_S), Internal)
    assert [reason(one.see(picture(1))) for _ in range(2)] == [INTEGRITY, None]


def test_a_refusal_that_was_foreseen_is_no_failure(desk: Make, picture: Make, caplog: pytest.LogCaptureFixture) -> None:
    """Wherever it comes from: told as it is, not logged, and the session goes on where it was."""
    one = desk(slack=False)
    for _ in range(2):
        one.see(picture(0))
    embed, broken = one.model.embed, [Overloaded("overloaded", "no room")]
    mine = broken[0]

    def refuse_once(*parts: Any) -> Any:
        if broken:
            raise broken.pop()
        return embed(*parts)

    one.model.embed = refuse_once

    assert one.submit(picture(1)).exception(WAIT_S) is mine
    assert caplog.records == []
    assert reason(one.see(picture(0))) is None


def test_frames_that_fail_together_before_storage_is_touched_cost_a_keyframe_each(desk: Make, picture: Make) -> None:
    """Which of them it was is not known: each is whole when it is computed again, and no other session's is."""
    one = desk(slack=False)
    for robot in "aabbcc":
        one.see(picture(0), robot)
    embed, broken = one.model.embed, [RuntimeError("no")]

    def fail_once(prepared: Any, *parts: Any) -> Any:
        if len(prepared) > 1 and broken:
            raise broken.pop()
        return embed(prepared, *parts)

    one.model.embed = fail_once
    gate = one.hold(0)
    running = one.submit(picture(0), None)
    assert gate.entered.wait(WAIT_S)
    answers = [one.submit(picture(1), robot) for robot in "ab"]
    gate.opened.set()
    running.result(WAIT_S)

    assert [reason(future.result(WAIT_S)) for future in answers] == [INTEGRITY] * 2
    assert broken == []
    assert [reason(one.see(picture(number), robot)) for number, robot in ((1, "a"), (1, "b"), (0, "c"))] == [None] * 3


def test_an_answer_that_is_kept_keeps_no_picture(desk: Make, picture: Make, caplog: pytest.LogCaptureFixture) -> None:
    """Whether it is an action, a failure, a refusal or was given up: answers may be kept for a repeat, frames not."""
    one = desk(slack=False)
    answers, seen = [], []
    caplog.set_level(logging.CRITICAL, "engine-test")  # what pytest captures keeps its traceback

    def submit(age_ms: float = 1e6) -> None:
        observation = Observation({"front": picture(0)}, SAYS)
        answers.append(one.engine.submit(observation, age_ms, SessionRef("a")))
        seen.append(weakref.ref(observation))

    submit()
    answers[-1].result(WAIT_S)
    one.model.broken = RuntimeError("no")
    submit()
    wait(answers, WAIT_S)
    gate = one.hold(0)
    running = one.submit(picture(0), "b")
    assert gate.entered.wait(WAIT_S)
    submit()
    submit(age_ms=1)
    assert answers[2].cancel()
    one.clock.now_s += 1
    gate.opened.set()
    assert not wait([*answers, running], WAIT_S).not_done
    one.see(picture(0), None)
    one.see(picture(0), None)  # so that the thread has nothing of theirs at hand

    kinds = [None if future.cancelled() else type(future.exception()) for future in answers]
    assert kinds == [type(None), Internal, None, DeadlineExceeded]
    assert [observation() for observation in seen] == [None] * 4


def test_a_pause_that_does_not_give_way_is_noticed(desk: Make, picture: Make) -> None:
    """The device is busy, though with no frame, for as long as one waits; not while none does."""
    one = desk()
    gate = one.hold(2)
    one.see(picture(0))
    one.see(picture(0))
    assert gate.entered.wait(WAIT_S)
    one.clock.now_s += 100
    assert one.engine.busy_s == 0
    waiting = one.submit(picture(0))
    one.clock.now_s += 40

    assert one.engine.busy_s == pytest.approx(40)
    gate.opened.set()
    waiting.result(WAIT_S)
    assert one.engine.busy_s == 0


def test_a_pause_keeps_the_first_that_came_waiting_for_longest(desk: Make, picture: Make) -> None:
    """Of several frames the oldest tells how long the device has been busy, and how late the pause gave way."""
    one = desk()
    gate = one.hold(2)
    one.see(picture(0))
    one.see(picture(0))
    assert gate.entered.wait(WAIT_S)
    waiting = []
    for robot in "ab":
        waiting.append(one.submit(picture(0), robot))
        one.clock.now_s += 2
    busy_s = one.engine.busy_s
    gate.opened.set()
    wait(waiting, WAIT_S)

    assert busy_s == pytest.approx(4)
    assert one.reports.get(timeout=WAIT_S).yield_ms == pytest.approx(4000)


def test_a_pause_without_memory_costs_the_pause_alone(
    desk: Make, picture: Make, caplog: pytest.LogCaptureFixture
) -> None:
    """Logged; the session goes on as if there had been none."""
    one = desk()
    one.see(picture(0))
    act, calls, failed = one.model.act, [], threading.Event()

    def fail_second(*parts: Any) -> Any:
        calls.append(1)
        if len(calls) == 2:
            failed.set()
            raise torch.OutOfMemoryError("CUDA out of memory")
        return act(*parts)

    one.model.act = fail_second
    with caplog.at_level(logging.ERROR, "engine-test"):
        one.see(picture(0))
        assert failed.wait(WAIT_S)
        after = one.see(picture(0))

    assert "an idle refresh failed" in caplog.text
    assert (reason(after), after.report.cache.age_max) == (None, 2)
