from __future__ import annotations

import json
import math
import os
import signal
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from stillframe_client.jaco2 import link
from stillframe_client.jaco2.bridge import streamer_process
from stillframe_client.jaco2.bridge.streamer_process import MOST_REASONS, TICKS, StreamerFailed, StreamerProcess
from stillframe_client.jaco2.core.watchdog import State
from stillframe_client.jaco2.settings import BridgeSettings

Chosen = Callable[..., BridgeSettings]
WAIT_S = 60.0


def status(reason: str) -> link.Status:
    """One of a streamer that is disarmed."""
    nan = (math.nan,) * 7
    return link.Status(1, 0.0, State.DISARMED, True, 0.0, nan, 0.0, math.nan, (0.0,) * 6, reason)  # noqa: FBT003


def test_a_reason_that_is_said_once_is_kept() -> None:
    """Between two looks the streamer may say several things: none of them is lost, and the newest is the status."""
    ours, theirs = link.pair()

    class Told:
        """What poll needs of a streamer's process."""

        poll = StreamerProcess.poll

        def __init__(self) -> None:
            self.link, self.status, self.reasons = link.BridgeEnd(ours), None, []

    told, end = Told(), link.StreamerEnd(theirs)
    for reason in ("not armed: the arm's pose is old", "no fresh step", "no fresh step", "the arm's pose is old"):
        end.say(status(reason))

    newest = told.poll()  # type: ignore[misc]

    assert newest is not None
    assert newest.reason == "the arm's pose is old"
    assert told.reasons == ["not armed: the arm's pose is old", "no fresh step", "the arm's pose is old"]
    for number in range(3 * MOST_REASONS):
        end.say(status(f"{number} ms old"))
        told.poll()  # type: ignore[misc]
    assert len(told.reasons) == MOST_REASONS
    assert told.reasons[-1] == f"{3 * MOST_REASONS - 1} ms old"
    told.link.close()
    end.close()


@pytest.mark.process
def test_it_is_armed_and_stopped_over_the_link(chosen: Chosen, tmp_path: Path) -> None:
    """A real one: it reports, is armed, is stopped, and ends when it is hung up on, with its whole log written."""
    streamer = StreamerProcess(chosen(), tmp_path, dry=False)
    assert streamer.wait(State.DISARMED)
    streamer.link.order("arm")
    assert streamer.wait(State.READY)
    streamer.link.order("stop")
    assert streamer.wait(State.FAULT, at_rest=True)
    assert any("stopped by the operator" in reason for reason in streamer.reasons)
    streamer.close()

    lines = [json.loads(line) for line in (tmp_path / TICKS).read_text().splitlines()]
    assert lines[0]["pid"] == streamer.pid
    assert any("stop" in line.get("calls", ()) for line in lines[1:])


@pytest.mark.process
def test_one_that_does_not_end_is_killed(chosen: Chosen, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A streamer that is stopped itself is not waited for for ever: without it the arm's queue runs empty."""
    monkeypatch.setattr(streamer_process, "END_S", 0.3)
    streamer = StreamerProcess(chosen(), tmp_path, dry=False)
    assert streamer.wait(State.DISARMED)
    os.kill(streamer.pid, signal.SIGSTOP)

    began_s = time.monotonic()
    streamer.close()

    assert time.monotonic() - began_s < WAIT_S
    with pytest.raises(ProcessLookupError):
        os.kill(streamer.pid, 0)


@pytest.mark.process
def test_settings_that_it_refuses_are_its_last_words(chosen: Chosen, tmp_path: Path) -> None:
    """The streamer reads its settings again, and trusts them no more than a file."""
    made = chosen()
    object.__setattr__(made.limits, "linear_m_s", 5.0)  # past the check of its own process

    streamer = StreamerProcess(replace(made), tmp_path, dry=False)

    with pytest.raises(StreamerFailed, match=r"limits\.linear_m_s is 5\.0"):
        streamer.wait(State.DISARMED)
    streamer.close()
