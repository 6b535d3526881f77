from __future__ import annotations

import json
import threading
import time

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stillframe_client.jaco2.core.controller import Call, Tick
from stillframe_client.jaco2.core.messages import NOTHING, Inbox, Order
from stillframe_client.jaco2.core.safety import Motion
from stillframe_client.jaco2.core.watchdog import State
from stillframe_client.jaco2.domain import ArmState, Step, ToolPose, Twist
from stillframe_client.jaco2.streamer import tick_log
from stillframe_client.jaco2.streamer.tick_log import TickLog

NUMBERS = st.lists(st.floats(allow_nan=False, allow_infinity=False), min_size=21, max_size=21)
QUIET = Tick(State.DISARMED, None, (), Motion(np.zeros(3), np.zeros(3)), (), ())


def lines(file):
    """What was written, as it is read."""
    return [json.loads(line) for line in file.read_text("utf-8").splitlines()]


class Disk:
    """A file that waits before each line until it is let go, or fails."""

    def __init__(self, out, *, fails=0):
        self._out, self._fails = out, fails
        self.reached, self.go_on = threading.Event(), threading.Event()

    def write(self, text):
        """Wait, then fail or write."""
        self.reached.set()
        assert self.go_on.wait(20)
        if self._fails:
            self._fails -= 1
            raise OSError(28, "No space left on device")
        self._out.write(text)

    def flush(self):
        """Hand on."""
        self._out.flush()

    def close(self):
        """Hand on."""
        self._out.close()


@given(NUMBERS)
def test_every_number_reads_back_to_the_last_bit(tmp_path_factory, numbers):
    """Time, steps, reports, what was asked and what was sent: a log can be decided again."""
    file = tmp_path_factory.mktemp("log") / "ticks.jsonl"
    log = TickLog(file)
    step = Step(3, np.array(numbers[:6]), *numbers[6:9])
    arm = ArmState(5, numbers[9], ToolPose(np.array(numbers[10:13]), np.array(numbers[13:17])), numbers[17])
    motion = Motion(np.array(numbers[:3]), np.array(numbers[3:6]))
    twist = Twist(np.array(numbers[15:18]), np.array(numbers[18:21]), numbers[0])
    tick = Tick(State.RUNNING, twist, (Call.START,), motion, ("why",), ("box",), ("note",))
    log.tick(numbers[20], 0.0012, Inbox((Order("arm"), step), heartbeat=True, garbage="x"), arm, "gone", tick)
    log.close()
    (line,) = lines(file)
    assert line == {
        "t": numbers[20], "late_ms": 1.2, "state": "RUNNING", "heard": 1, "garbage": "x", "error": "gone",
        "in": [["arm"], ["step", 3, numbers[:6], *numbers[6:9]]],
        "arm": {"seq": 5, "t": numbers[9], "pose": numbers[10:17], "closure": numbers[17], "joints": None},
        "asked": numbers[:6], "sent": [*numbers[15:21], numbers[0]],
        "calls": ["start"], "why": ["why"], "limits": ["box"], "notes": ["note"],
    }  # fmt: skip


def test_a_report_is_written_once(tmp_path):
    """The arm's state comes ten times a second, the ticks a hundred."""
    log = TickLog(tmp_path / "ticks.jsonl")
    arm = ArmState(1, 0.5, ToolPose(np.zeros(3), np.array([0.0, 0.0, 0.0, 1.0])))
    log.header({"version": 1})
    for k in range(3):
        log.tick(float(k), 0.0, NOTHING, arm, "", QUIET)
    log.close()
    head, *ticks = lines(tmp_path / "ticks.jsonl")
    assert head == {"version": 1}
    assert ["arm" in line for line in ticks] == [True, False, False]


def test_a_slow_disk_loses_lines_and_holds_up_no_tick(tmp_path, monkeypatch):
    """The lines that fit wait; the rest is counted, and the next line says how many."""
    monkeypatch.setattr(tick_log, "MOST_WAITING", 5)
    log = TickLog(tmp_path / "ticks.jsonl")
    disk = log._out = Disk(log._out)
    log.tick(0.0, 0.0, NOTHING, None, "", QUIET)
    assert disk.reached.wait(20)
    for k in range(1, 9):  # the disk does not move: were it waited for, this would not end
        log.tick(float(k), 0.0, NOTHING, None, "", QUIET)
    assert log.lost == 3
    disk.go_on.set()
    until_s = time.monotonic() + 20
    while not log._lines.empty() and time.monotonic() < until_s:
        time.sleep(0.001)
    log.tick(9.0, 0.0, NOTHING, None, "", QUIET)
    log.close()
    written = lines(tmp_path / "ticks.jsonl")
    assert [line["t"] for line in written] == [0, 1, 2, 3, 4, 5, 9]
    assert [line.get("lost") for line in written] == [None] * 6 + [3]


def test_a_full_disk_ends_nothing(tmp_path):
    """What could not be written is counted; when there is room again it goes on."""
    log = TickLog(tmp_path / "ticks.jsonl")
    disk = log._out = Disk(log._out, fails=2)
    disk.go_on.set()
    for k in range(4):
        log.tick(float(k), 0.0, NOTHING, None, "", QUIET)
    log.close()
    assert log.lost == 2
    assert [line["t"] for line in lines(tmp_path / "ticks.jsonl")] == [2, 3]


@pytest.mark.parametrize("waiting", [0, 2])
def test_a_disk_that_hangs_does_not_keep_the_process(tmp_path, monkeypatch, waiting):
    """Closing waits for a while, whether or not there is room for its last word, and leaves the file alone."""
    monkeypatch.setattr(tick_log, "LEAVING_S", 0.05)
    monkeypatch.setattr(tick_log, "MOST_WAITING", 2)
    log = TickLog(tmp_path / "ticks.jsonl")
    disk = log._out = Disk(log._out)
    for k in range(1 + waiting):
        log.tick(float(k), 0.0, NOTHING, None, "", QUIET)
        assert disk.reached.wait(20)
    log.close()
    assert log._thread.is_alive()
    disk.go_on.set()
    log._lines.put(None)
    log._thread.join(60)
    disk.close()
