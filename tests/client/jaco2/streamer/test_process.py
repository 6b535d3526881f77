"""The real process, stopped in every way: its last commands are zeros and the arm is told to stop, within ticks."""

from __future__ import annotations

import itertools
import signal
import subprocess
import sys
import time

import pytest

from stillframe_client.jaco2 import link

pytestmark = pytest.mark.process

# From 0.2 m/s at the ceiling 0.64 m/s2: 32 ticks; zeros for 0.3 s: 30; the tick that notices, and the one that stops.
STOP_TICKS = 32 + 30 + 3
SIGNALS = {"SIGTERM": signal.SIGTERM, "SIGINT": signal.SIGINT, "SIGHUP": signal.SIGHUP, "SIGQUIT": signal.SIGQUIT}


def test_the_bridge_hangs_up(started):
    """Its end of the link is closed."""
    streamer = started()
    streamer.until_running()
    at_s = streamer.hang_up()
    log = streamer.log()
    assert log.ends_well()
    assert log.stops_within(at_s) <= STOP_TICKS


@pytest.mark.parametrize("number", SIGNALS.values(), ids=SIGNALS)
def test_a_signal_stops_it(started, number):
    """While the bridge goes on as ever: the arm comes to rest, and the process ends."""
    streamer = started()
    streamer.until_running()
    at_s = streamer.signal(number)
    log = streamer.log()
    assert log.ends_well()
    assert log.stops_within(at_s) <= STOP_TICKS
    assert log.ticks[-1]["why"]


def test_the_bridge_is_killed(started):
    """By SIGKILL: its end closes with it."""
    streamer = started(peer=True)
    streamer.until_running()
    at_s = streamer.signal(signal.SIGKILL, streamer.peer)
    log = streamer.log()
    assert log.ends_well()
    assert log.stops_within(at_s) <= STOP_TICKS


def test_the_bridge_is_stopped_for_half_a_second(started):
    """SIGSTOP: rest after the heartbeat's 0.15 s and the ramp; SIGCONT: it runs again by itself."""
    streamer = started(peer=True)
    streamer.until_running()
    stopped_s = streamer.signal(signal.SIGSTOP, streamer.peer)
    time.sleep(1.0)
    going_on_s = streamer.signal(signal.SIGCONT, streamer.peer)
    streamer.until_running()
    streamer.signal(signal.SIGKILL, streamer.peer)
    log = streamer.log()
    assert log.ends_well()
    silent = [tick for tick in log.ticks if stopped_s <= tick["t"] < going_on_s]
    assert silent[-1]["state"] in ("HOLD", "FAULT")
    assert not any(silent[-1].get("sent", [0.0])[:6])
    # 0.15 s of silence, 0.05 m/s at 0.4 m/s2 and the tick that notices: what moves is within so many ticks.
    assert sum(any(tick.get("sent", [0.0])[:6]) for tick in silent) <= 15 + 14 + 10
    assert any(tick["state"] == "RUNNING" for tick in log.ticks if tick["t"] > going_on_s)


def test_the_streamer_itself_is_stopped_for_a_second(started):
    """SIGSTOP: the arm's queue runs empty; SIGCONT: FAULT at the first tick, from rest, and no tick is caught up."""
    streamer = started()
    streamer.until_running()
    stopped_s = streamer.signal(signal.SIGSTOP)
    time.sleep(1.0)
    going_on_s = streamer.signal(signal.SIGCONT)
    time.sleep(0.5)
    streamer.hang_up()
    log = streamer.log()
    assert log.ends_well()
    after = [tick for tick in log.ticks if tick["t"] >= going_on_s]
    assert after[0]["state"] == "FAULT"
    assert "the streamer was stopped for" in after[0]["why"][-1]
    fault = list(itertools.takewhile(lambda tick: tick["state"] == "FAULT", after))
    assert not any(any(tick["sent"][:6]) for tick in fault if "sent" in tick)
    assert log.stops_within(stopped_s + 0.5) <= STOP_TICKS


def test_settings_that_cannot_be_used_start_nothing(tmp_path):
    """The process says what is wrong and leaves; no arm is touched and no log begun."""
    file = tmp_path / "settings.json"
    file.write_text('{"limits": {"linear_m_s": 3.0}}', "utf-8")
    ours, theirs = link.pair()
    with ours, theirs:
        command = [sys.executable, "-m", "stillframe_client.jaco2.streamer", str(theirs.fileno()), str(file)]
        done = subprocess.run(
            [*command, str(tmp_path / "ticks.jsonl")], check=False, capture_output=True, text=True, timeout=60,
            pass_fds=(theirs.fileno(),),
        )  # fmt: skip
    assert done.returncode == 2
    assert "linear_m_s" in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "ticks.jsonl").exists()
