"""What the engine does with a pause: only in one, at once out of it, and what comes of it is told."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from stillframe.domain import KeyframeReason, SessionRef

Make = Callable[..., Any]
WAIT_S = 60  # for what has to happen; no test waits this long unless it fails
WHOLE = 21  # rows of a pass of which nothing is reused
LOG = "engine-test"


def until(happened: Callable[[], bool]) -> None:
    """Wait for it."""
    deadline_s = time.monotonic() + WAIT_S
    while not happened():
        assert time.monotonic() < deadline_s
        time.sleep(0.001)


def test_a_pause_measures_and_is_reported(desk: Make, picture: Make, changed: Make) -> None:
    """After a delta frame nobody has to ask: the engine's thread runs the dense pass and tells."""
    one = desk()
    one.see(picture(0))
    one.see(changed(picture(0), 3))
    report = one.reports.get(timeout=WAIT_S)

    assert report.drift is not None
    assert report.yield_ms is None
    assert one.reports.empty()
    assert one.model.passes == [WHOLE, 5, WHOLE]


def test_no_pause_is_taken_while_frames_wait(desk: Make, picture: Make) -> None:
    """Four frames in a queue are answered one after another; the dense pass comes after the last."""
    one = desk()
    gate = one.hold(0)
    futures = [one.submit(picture(0)) for _ in range(4)]
    assert gate.entered.wait(WAIT_S)
    gate.opened.set()
    for future in futures:
        future.result(WAIT_S)
    one.reports.get(timeout=WAIT_S)

    assert one.model.passes == [WHOLE, 4, 4, 4, WHOLE]


def test_a_frame_that_comes_in_a_pause_is_answered(desk: Make, picture: Make, changed: Make) -> None:
    """The dense pass gives way between two layers; how long the frame waited for that is told; nothing is lost."""
    one = desk()
    gate = one.hold(2)
    one.see(picture(0))
    one.see(picture(0))
    assert gate.entered.wait(WAIT_S)
    waiting = one.submit(changed(picture(0), 3))
    one.clock.now_s += 0.25
    gate.opened.set()
    answer = waiting.result(WAIT_S)
    gave_way, measured = (one.reports.get(timeout=WAIT_S) for _ in range(2))

    assert (gave_way.drift, gave_way.yield_ms) == (None, pytest.approx(250))
    assert answer.report.cache.keyframe_reason is None
    assert answer.report.cache.age_max == 2
    assert measured.drift is not None
    assert measured.yield_ms is None


def test_closing_ends_a_pause(desk: Make, picture: Make) -> None:
    """At the next layer, without a report of a frame that was not there."""
    one = desk()
    gate = one.hold(2)
    one.see(picture(0))
    one.see(picture(0))
    assert gate.entered.wait(WAIT_S)
    closer = threading.Thread(target=one.engine.close)
    closer.start()
    until(lambda: not one.engine.ready)
    gate.opened.set()
    closer.join(WAIT_S)

    assert not closer.is_alive()
    report = one.reports.get(timeout=WAIT_S)
    assert (report.drift, report.yield_ms) == (None, None)
    assert one.reports.empty()


@pytest.mark.parametrize("knobs", [{"slack": False}, {"mode": "off"}, {"mode": "exact"}])
def test_without_slack_the_engine_rests(desk: Make, picture: Make, knobs: dict[str, Any]) -> None:
    """Switched off, or with nothing to measure: no pass but those for frames."""
    one = desk(**knobs)
    for _ in range(3):
        one.see(picture(0))
    one.engine.close()

    assert one.reports.empty()
    assert len(one.model.passes) == 3


@pytest.mark.parametrize(("slack", "passes"), [(True, [WHOLE, WHOLE, 4, WHOLE]), (False, [WHOLE, WHOLE, 4])])
def test_slack_says_whether_pauses_are_used(desk: Make, picture: Make, *, slack: bool, passes: list[int]) -> None:
    """Between two answers and behind the last: by the time that the thread waits for a frame, it has used its pause."""
    one, idle = desk(slack=slack), threading.Event()
    due = one.engine._queue.next

    def watched(*parts: Any) -> Any:
        idle.set()
        items = due(*parts)
        idle.clear()
        return items

    one.engine._queue.next = watched
    for robot in (None, "a", "a"):  # the first may still be taken unwatched
        one.see(picture(0), robot)
        assert idle.wait(WAIT_S)

    assert one.model.passes == passes
    assert one.reports.qsize() == slack


def test_frames_of_no_session_leave_nothing_to_do(desk: Make, picture: Make) -> None:
    """Nothing of them is kept, so nothing can drift."""
    one = desk()
    for _ in range(3):
        one.see(picture(0), None)
    one.engine.close()

    assert one.reports.empty()
    assert one.model.passes == [WHOLE] * 3


def test_a_pause_that_fails_is_logged_and_frames_go_on(
    desk: Make, picture: Make, caplog: pytest.LogCaptureFixture
) -> None:
    """Nobody waits for a pause; the same one is not tried for ever."""
    one = desk()
    act, calls = one.model.act, []

    def fail_third(*parts: Any) -> Any:
        calls.append(1)
        if len(calls) == 3:
            raise RuntimeError("no memory for a pause")
        return act(*parts)

    one.model.act = fail_third
    with caplog.at_level(logging.ERROR, LOG):
        steps = [one.see(picture(0)) for _ in range(2)]
        until(lambda: "an idle refresh failed" in caplog.text)
        steps.append(one.see(picture(0)))
    tokens = [step.chunk.tokens.tolist() for step in steps]

    assert "no memory for a pause" in caplog.text
    assert tokens == [tokens[0]] * 3
    assert one.reports.get(timeout=WAIT_S).drift == 0


def test_broken_storage_found_in_a_pause_costs_a_keyframe(
    desk: Make, picture: Make, caplog: pytest.LogCaptureFixture
) -> None:
    """Logged without a traceback; the session starts anew, the engine goes on."""
    one = desk("static-only")
    act, calls = one.model.act, []

    def spoil_second(prefilled: Any, runner: Any) -> Any:
        calls.append(1)
        decoded = act(prefilled, runner)
        if len(calls) == 2:
            prefilled[0].kv.keys(2, 4)[0, 3, 0] = float("nan")
        return decoded

    one.model.act = spoil_second
    with caplog.at_level(logging.ERROR, LOG):
        reasons = [one.see(picture(0)).report.cache.keyframe_reason for _ in range(2)]
        until(lambda: "session reset after KV corruption" in caplog.text)
        reasons.append(one.see(picture(0)).report.cache.keyframe_reason)

    assert reasons == [KeyframeReason.FIRST_FRAME, None, KeyframeReason.INTEGRITY]
    assert "session reset after KV corruption: keys or values are not finite" in caplog.text
    assert "Traceback" not in caplog.text


def test_the_engine_speaks_for_its_sessions(desk: Make, picture: Make) -> None:
    """Epochs, seqs and modes as each frame brings them, usage in bytes: all that web asks of domain.Policy."""
    one = desk()
    empty = one.engine.usage
    one.see(picture(0))
    one.see(picture(0), "b")
    usage = one.engine.usage

    assert (empty.sessions, empty.in_use_bytes) == (0, 0)
    assert usage.sessions == 2
    assert usage.in_use_bytes * usage.slots == 2 * usage.budget_bytes
    cache = one.see(picture(0), SessionRef("a", epoch=2, seq=7)).report.cache
    assert (cache.keyframe_reason, cache.epoch, cache.seq) == (KeyframeReason.RESET, 2, 7)
    off = one.see(picture(0), SessionRef("b", seq=1, mode="off")).report.cache
    assert (off.mode, off.keyframe_reason, off.seq) == ("off", KeyframeReason.OFF, 1)


def test_robots_on_threads_are_answered_as_alone(desk: Make, picture: Make) -> None:
    """Rule 8 with the real queue and real pauses in between: each robot's last frame, still, is answered densely."""
    one = desk()
    scenes = {robot: picture(number) for number, robot in enumerate("abc")}
    answers: dict[str, list[int]] = {}

    def drive(robot: str) -> None:
        for _ in range(6):
            answers[robot] = one.see(scenes[robot], robot).chunk.tokens.tolist()

    threads = [threading.Thread(target=drive, args=(robot,)) for robot in scenes]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(WAIT_S)

    assert answers == {robot: one.see(scene, None).chunk.tokens.tolist() for robot, scene in scenes.items()}
    assert all(np.isfinite(report.drift or 0) for report in [*one.reports.queue])
