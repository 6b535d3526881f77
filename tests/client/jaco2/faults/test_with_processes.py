from __future__ import annotations

import os
import re
from pathlib import Path

import pytest
from fault_kit.matrix import BY_NAME, HOLD, LEFT, MATRIX, STOP
from fault_kit.real_faults import MAKE, NAMESPACE, NOTICED_MS, Followed, no_namespace, passing, with_processes

TICK_MS, LATE_MS = 10.0, 500.0  # what a machine with other work may add
FAST = {
    "bridge killed (kill -9)",
    "SIGINT",
    "NaN from the policy",
    "streamer killed (kill -9)",
    "503: overloaded",
    "connection closed",
    "camera frozen",
}
STATUS = {
    **dict.fromkeys(("SIGINT", "SIGTERM", "SIGHUP", "SIGQUIT", "any key", "terminal closed"), 130),
    **dict.fromkeys(("bridge killed (kill -9)", "bridge stopped (SIGSTOP)"), -9),
}
FAULT = 2


def those(*follows: str) -> list[object]:
    """The faults that this follows; what takes long is marked."""
    names = [fault.name for fault in MATRIX if fault.follows in follows]
    return [name if name in FAST else pytest.param(name, marks=pytest.mark.slow) for name in names]


def most_ms(name: str, ticks: int) -> float:
    """The bound for processes."""
    return ticks * TICK_MS + NOTICED_MS.get(name, 0.0) + LATE_MS


def check_held(name: str, mode: str, followed: Followed) -> None:
    """It held within the bound, was told to rest all along, and went on by itself."""
    came, fault = followed.came, BY_NAME[name]
    assert "RUNNING" in came.states[came.states.index("HOLD") :]
    assert {*came.states} == {"RUNNING", "HOLD"}
    assert came.rest_ms <= most_ms(name, fault.rest_ticks[mode])
    assert came.zeros_ms >= 300
    assert came.stop_ms is None


def test_every_fault_is_made() -> None:
    """No row of the matrix is left out, and nothing is made that is no row."""
    assert {fault.name for fault in MATRIX} == MAKE.keys()


@pytest.mark.process
def test_three_that_pass_are_waited_for(tmp_path: Path) -> None:
    """One run comes to rest three times, and goes on each time by itself; then a signal ends it."""
    names = [fault.name for fault in MATRIX if fault.follows == HOLD and fault.name in FAST]

    followed = passing(names, "realtime", tmp_path)

    for name in names:
        check_held(name, "realtime", followed[name])
        assert followed[name].status == 130


@pytest.mark.slow
@pytest.mark.process
@pytest.mark.parametrize("mode", ["lockstep", "realtime"])
def test_all_that_pass_are_waited_for(mode: str, tmp_path: Path) -> None:
    """One run goes through all of them."""
    names = [fault.name for fault in MATRIX if fault.follows == HOLD]

    followed = passing(names, mode, tmp_path)

    for name in names:
        check_held(name, mode, followed[name])


@pytest.mark.process
@pytest.mark.parametrize("name", those(STOP))
def test_what_does_not_pass_stops_the_arm(name: str, tmp_path: Path) -> None:
    """Rest is commanded within the bound and for 0.3 s, then the arm is stopped, and nothing is sent any more."""
    if name in NAMESPACE and (why := no_namespace()):
        pytest.skip(f"no network namespace can be made here: {why}")

    followed = with_processes(name, "realtime", tmp_path)

    came, fault = followed.came, BY_NAME[name]
    assert fault.stop_ticks is not None
    assert came.stop_ms is not None
    assert came.rest_ms <= most_ms(name, fault.rest_ticks["realtime"])
    assert came.stop_ms <= most_ms(name, fault.stop_ticks["realtime"])
    assert came.zeros_ms >= 280
    assert came.silent_after
    assert came.states[-1] in ("FAULT", "DISARMED")
    assert followed.status == STATUS.get(name, FAULT)


@pytest.mark.process
@pytest.mark.parametrize("name", those(LEFT))
def test_an_arm_that_is_told_nothing_rests(name: str, tmp_path: Path) -> None:
    """No command is sent after the fault, so the arm's queue runs empty; the bridge ends with a fault and says why."""
    followed = with_processes(name, "realtime", tmp_path)

    assert followed.came.last_sent_ms <= 2 * TICK_MS
    assert followed.status == FAULT
    assert "the streamer has" in followed.said


@pytest.mark.slow
@pytest.mark.process
def test_the_time_of_day_is_of_no_account(tmp_path: Path) -> None:
    """While it steps by an hour, to and fro, the arm moves on without a pause."""
    followed = with_processes("the machine's clock steps", "lockstep", tmp_path)

    assert followed.came.states == ("RUNNING",)
    assert followed.status == 130


def test_no_room_asks_for_the_time_of_day() -> None:
    """Only a run's folder is named by it: nothing else of the bridge calls what a clock step changes."""
    import stillframe_client.jaco2

    rooms = Path(stillframe_client.jaco2.__file__).parent
    asks = re.compile(r"time\.time\b|import time as|from time import|datetime|strftime|localtime|gmtime|CLOCK_REALTIME")
    found = {
        f"{file.relative_to(rooms)}: {line.strip()}"
        for file in rooms.rglob("*.py")
        for line in file.read_text(encoding="utf-8").splitlines()
        if asks.search(line)
    }

    assert found == {f"bridge{os.sep}run.py: " + 'stamp = time.strftime("%Y%m%d-%H%M%S")'}
