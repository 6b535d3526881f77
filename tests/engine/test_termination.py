from __future__ import annotations

import logging
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any

import pytest
import torch

from stillframe.engine import device
from stillframe.engine.termination import PendingAnswers
from stillframe.errors import Internal, NotReady

Make = Callable[..., Any]
WAIT_S = 60  # for what has to happen; no test waits this long unless it fails
ENDS = [SystemExit(0), KeyboardInterrupt(), GeneratorExit(), MemoryError("of the queue")]


@pytest.fixture(autouse=True)
def loud(caplog: pytest.LogCaptureFixture) -> None:
    """All that is logged is seen."""
    caplog.set_level(logging.INFO)


def ended(desk: Any) -> list[BaseException]:
    """Hears what ends an engine."""
    causes: list[BaseException] = []
    desk.engine._pending._on_ended = causes.append
    return causes


def code(answer: Future[Any]) -> str:
    """Of the problem in an answer."""
    error = answer.exception(WAIT_S)
    assert isinstance(error, NotReady)
    return error.code


def is_over(one: Any, causes: list[BaseException], cause: BaseException, caplog: pytest.LogCaptureFixture) -> bool:
    """The thread has ended, it is known why, and nothing is taken any more."""
    one.engine._thread.join(WAIT_S)
    assert not one.engine._thread.is_alive()
    assert causes == [cause]
    assert not one.engine.ready
    assert [record.levelname for record in caplog.records].count("CRITICAL") == 1
    return code(one.submit(None)) == "engine-ended"


@pytest.mark.parametrize("cause", ENDS[:3], ids=repr)
def test_what_ends_the_thread_in_a_frame(
    desk: Make, picture: Make, caplog: pytest.LogCaptureFixture, cause: BaseException
) -> None:
    """The frame, and those that wait behind it, get a problem; none hangs."""
    one = desk("off")
    causes = ended(one)
    gate = one.hold(0)
    first = one.submit(picture(0), "a")
    assert gate.entered.wait(WAIT_S)
    others = [one.submit(picture(0), robot) for robot in ("a", "b", None)]
    one.model.broken = cause
    gate.opened.set()

    assert [code(answer) for answer in (first, *others)] == ["engine-ended"] * 4
    assert is_over(one, causes, cause, caplog)


@pytest.mark.parametrize("cause", ENDS, ids=repr)
def test_what_ends_the_thread_at_the_line(
    desk: Make, picture: Make, caplog: pytest.LogCaptureFixture, cause: BaseException
) -> None:
    """Frames that the queue has given out and not handed over are answered as well."""
    one = desk("off")
    causes = ended(one)

    def fails(*_: object) -> Any:
        raise cause

    one.engine._queue._pop = fails
    answer = one.submit(picture(0))

    assert code(answer) == "engine-ended"
    assert is_over(one, causes, cause, caplog)


def test_what_ends_the_thread_in_a_pause(desk: Make, picture: Make, caplog: pytest.LogCaptureFixture) -> None:
    """Whoever is told of pauses may fail; what is no Exception ends the thread all the same."""
    one, cause = desk("adaptive"), SystemExit(3)
    causes = ended(one)

    def fails(_: object) -> None:
        raise cause

    one.engine._on_refresh = fails
    for _ in range(2):
        one.see(picture(0))

    assert is_over(one, causes, cause, caplog)


@pytest.mark.parametrize("lost", [True, False])
def test_a_gpu_that_is_lost_ends_the_thread(
    desk: Make, picture: Make, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch, *, lost: bool
) -> None:
    """One that fails even when it is waited for; any other of its errors costs the frame that had it alone."""
    one, error = desk("off"), torch.AcceleratorError("an illegal memory access was encountered")
    causes = ended(one)

    def fails() -> None:
        if lost:
            raise torch.AcceleratorError("an illegal memory access was encountered")

    monkeypatch.setattr(device, "wait_for", lambda _: fails)
    one.model.broken = error
    answer = one.submit(picture(0))
    refused = answer.exception(WAIT_S)

    if not lost:
        assert isinstance(refused, Internal)
        assert one.see(picture(0)).report.cache.frame == "keyframe"
        return
    assert code(answer) == "engine-ended"
    assert isinstance(one.engine._pending.cause, device.DeviceLost)
    assert one.engine._pending.cause.__cause__ is error
    assert is_over(one, causes, one.engine._pending.cause, caplog)


def test_an_answers_callback_may_end_the_thread_and_no_other_answer(
    desk: Make, picture: Make, caplog: pytest.LogCaptureFixture
) -> None:
    """A future calls whoever waits in the engine's thread."""
    one, cause = desk("off"), SystemExit(4)
    causes = ended(one)
    gate = one.hold(0)
    first, second = one.submit(picture(0), "a"), one.submit(picture(0), "b")

    def fails(_: object) -> None:
        raise cause

    first.add_done_callback(fails)
    gate.opened.set()

    assert first.result(WAIT_S)
    assert code(second) == "engine-ended"
    assert is_over(one, causes, cause, caplog)


def test_whoever_counts_and_watches_may_fail(desk: Make, picture: Make) -> None:
    """An exception there costs neither a frame nor the engine."""
    one = desk("adaptive")

    def fails(_: object) -> None:
        raise RuntimeError("no")

    one.engine._on_refresh = one.engine._worker._on_refused = fails
    head = one.model.decoder.lm_head.weight
    before = head.clone()
    head[:] = 0
    flat = one.submit(picture(0)).exception(WAIT_S)
    head.copy_(before)

    assert getattr(flat, "code", None) == "not-an-action"
    assert [one.see(picture(0)).chunk.tokens.tolist() for _ in range(3)]
    assert one.engine.ready


def test_an_engine_that_is_closed_has_not_ended(desk: Make, picture: Make) -> None:
    """Nothing is told of it."""
    one = desk("off")
    causes = ended(one)
    one.see(picture(0))
    one.engine.close()

    assert causes == []
    assert code(one.submit(picture(0))) == "draining"


def test_an_answer_that_comes_after_the_end_is_settled() -> None:
    """Between the queue and the end there is no gap."""
    pending, early, late, done = PendingAnswers(lambda _: None), Future(), Future(), Future()  # type: ignore[var-annotated]
    for answer in (early, done):
        pending.add(answer)
    done.set_result(None)
    pending.fail_all(SystemExit())
    pending.add(late)

    assert [code(answer) for answer in (early, late)] == ["engine-ended"] * 2
    assert done.result() is None
