from __future__ import annotations

import io
import os
import signal
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from stillframe_client.jaco2.cli import main
from stillframe_client.jaco2.reports.tick_file import TickFile, read_log

QUICK = ["--yes", "--shift", "0.008", "--turn", "0.05"]
FAST: dict[str, Any] = {"limits__linear_m_s": 0.2, "limits__angular_rad_s": 1.0, "arm__kind": "sim"}

pytestmark = pytest.mark.process


def log_in(folder: Path) -> TickFile:
    """The tick log of the only check."""
    (run,) = (folder / "runs" / "frame-check").iterdir()
    return read_log(run)


def test_an_arm_that_follows_passes(
    settings_file: Callable[..., Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A real streamer over the sim arm: six nudges, both verdicts ok, back where it began, disarmed and stopped.

    The policy's frame, the speed and the gripper's manner that are set for runs have no part in it.
    """
    file = settings_file(
        **FAST, limits__speed=1.0, motion__base_yaw_deg=90.0, motion__gripper="continuous", motion__rotation="euler_xyz"
    )

    assert main(["frame-check", "--config", str(file), *QUICK]) == 0
    said, log = capsys.readouterr().out, log_in(tmp_path)
    assert [line.split()[:2] for line in said.splitlines()[:6]] == [
        [what, sign]
        for what in ("shift", "turn")
        for sign in (("+x", "-y", "+z") if what == "shift" else ("+x", "+y", "+z"))
    ]
    assert said.count("\nok ") == 2
    assert log.settings.limits.speed == 0.25
    speeds = [sum(part * part for part in line.sent[:3]) ** 0.5 for line in log.ticks if line.sent is not None]
    assert 0.02 < max(speeds) <= 0.25 * 0.2
    assert log.ticks[-1].sent is None
    assert "stop" in {call for line in log.ticks for call in line.calls}
    reports = [line.report for line in log.ticks if line.report is not None]
    assert abs(reports[-1].pose.position_m - reports[0].pose.position_m).max() < 0.001
    assert {line.sent[6] for line in log.ticks if line.sent is not None} == {0.0}  # the hand stays open


def test_an_arm_of_another_frame_does_not(
    settings_file: Callable[..., Path], capsys: pytest.CaptureFixture[str]
) -> None:
    """The sim arm takes the tool's frame; set up as one that takes the base's, it fails, and the setting is named."""
    file = settings_file(**FAST, arm__angular_frame="base")

    assert main(["frame-check", "--config", str(file), *QUICK]) == 1
    assert 'set arm.angular_frame = "tool"' in capsys.readouterr().out


def test_a_signal_stops_it(
    settings_file: Callable[..., Path],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    until_moving: Callable[[Path], Path],
) -> None:
    """SIGINT in the middle of the nudges: status 130, the arm comes to rest and is told to stop."""
    file, over = settings_file(arm__kind="sim"), threading.Event()

    def stop() -> None:
        until_moving(tmp_path)
        if not over.is_set():
            os.kill(os.getpid(), signal.SIGINT)

    stopping = threading.Thread(target=stop)
    stopping.start()

    status = main(["frame-check", "--config", str(file), "--yes"])

    over.set()
    stopping.join()
    log = log_in(tmp_path)
    sent = [line.sent for line in log.ticks if line.sent is not None]
    assert status == 130
    assert "stopped by SIGINT" in capsys.readouterr().err
    assert any(any(command[:6]) for command in sent)
    assert not any(sent[-1][:6])
    assert log.ticks[-1].state == "FAULT"
    assert any("stop" in line.calls for line in log.ticks)


def test_an_arm_that_is_not_there_is_told(
    settings_file: Callable[..., Path], capsys: pytest.CaptureFixture[str]
) -> None:
    """What the streamer said before it ended; status 1."""
    file = settings_file(arm__kind="mujoco", arm__socket="/nowhere/world.sock")

    assert main(["frame-check", "--config", str(file), "--yes"]) == 1
    assert "the streamer has ended" in capsys.readouterr().err


def test_it_asks_first(
    settings_file: Callable[..., Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Without a yes no streamer is started; how far and how fast the arm would go is said before."""
    monkeypatch.setattr("sys.stdin", io.StringIO("\n"))

    assert main(["frame-check", "--config", str(settings_file())]) == 1
    said = capsys.readouterr()
    assert "30 mm along each axis and 0.15 rad about each, and back, at 25% speed. Any key stops it." in said.out
    assert "nothing has moved" in said.err
    assert not (tmp_path / "runs").exists()


def test_an_arm_outside_the_box_is_not_nudged(
    settings_file: Callable[..., Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """There is no room to nudge in: it says where the tool is, and is not armed."""
    file = settings_file(arm__kind="sim", limits__high_m=[0.5, -0.5, 0.6])

    assert main(["frame-check", "--config", str(file), "--yes"]) == 1
    assert "the tool is at y -0.400 m and the box goes from -0.7 to -0.5" in capsys.readouterr().err
    assert {(line.state, line.sent) for line in log_in(tmp_path).ticks} == {("DISARMED", None)}
