from __future__ import annotations

import json
import os
import pty
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from stillframe.testing import EchoPolicy, policy_info, running
from stillframe_client.jaco2.cli import main
from stillframe_client.jaco2.reports.tick_file import read_log

STATS = {"q01": [-0.005] * 6 + [0.0], "q99": [0.005] * 6 + [1.0], "mask": [True] * 6 + [False]}
LEFT = np.array([[0.004, 0.0, 0.0, 0.0, 0.0, 0.0, 1.0]])

pytestmark = pytest.mark.process


@pytest.fixture(scope="module")
def daemon() -> Iterator[str]:
    """A daemon whose policy always goes the same way."""
    with running(EchoPolicy(info=policy_info(norm_stats={"robot": STATS}), actions=LEFT)) as url:
        yield url


@pytest.fixture
def configured(settings_file: Callable[..., Path], daemon: str, tmp_path: Path) -> Path:
    """Settings of the sim arm, a camera that replays two pictures, and that daemon."""
    pictures = tmp_path / "pictures"
    pictures.mkdir()
    for number in range(2):
        Image.fromarray(np.full((64, 64, 3), 90 * number, np.uint8)).save(pictures / f"{number}.png")
    camera = {"kind": "replay", "source": str(pictures), "frozen_s": 0.0}
    named = {f"cameras__front__{name}": value for name, value in camera.items()}
    return settings_file(policy__url=daemon, policy__instruction="go left", arm__kind="sim", **named)


def run_in(folder: Path) -> Path:
    """The folder of the only run."""
    (run,) = (file.parent for file in (folder / "runs").glob("*/ticks.jsonl"))
    return run


def travel_m(run: Path) -> float:
    """How far the arm went along x."""
    reports = [line.report for line in read_log(run).ticks if line.report is not None]
    return float(reports[-1].pose.position_m[0] - reports[0].pose.position_m[0])


@pytest.mark.usefixtures("blank_charts")
def test_a_dry_run_moves_nothing(configured: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The default: asks, decides and logs; the arm stays; its log replays, and is reported as a dry run."""
    assert main(["--config", str(configured), "--seconds", "1.5"]) == 0
    run = run_in(tmp_path)
    capsys.readouterr()

    log = read_log(run)
    assert log.dry
    assert any(line.sent is not None and line.sent[0] > 0 for line in log.ticks)
    assert travel_m(run) == 0
    assert main(["replay", str(run)]) == 0
    assert main(["report", str(run)]) == 0
    assert "dry run: nothing was sent" in capsys.readouterr().out


def test_a_run_moves_the_arm_that_is_named(
    configured: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Left, as the policy says, at a quarter of the speed; its log replays tick by tick."""
    assert main(["run", "--arm", "sim", "--config", str(configured), "--seconds", "2"]) == 0
    run = run_in(tmp_path)
    capsys.readouterr()

    assert 0.003 < travel_m(run) < 0.03
    assert json.loads((run / "summary.json").read_text())["fault"] is False
    assert main(["replay", str(run)]) == 0
    assert capsys.readouterr().out.endswith("ticks decided again: all came to the same\n")


@pytest.mark.parametrize("command", [["run", "--arm", "sim"], ["frame-check", "--yes"]], ids=["run", "frame-check"])
def test_any_key_stops(
    command: list[str], configured: Path, tmp_path: Path, until_moving: Callable[[Path], Path]
) -> None:
    """On a terminal, a single key without return: status 130, and the arm was told to stop at the end of its log."""
    ours, terminal = pty.openpty()
    arguments = [sys.executable, "-m", "stillframe_client.jaco2.cli", *command, "--config", str(configured)]
    with subprocess.Popen(arguments, stdin=terminal, stdout=subprocess.PIPE, stderr=subprocess.STDOUT) as process:
        os.close(terminal)
        log = until_moving(tmp_path)
        os.write(ours, b"x")
        said, _ = process.communicate(timeout=60)
    os.close(ours)

    assert process.returncode == 130, said
    assert b"stopped by a key" in said
    ticks = read_log(log).ticks
    assert any("stop" in line.calls for line in ticks)
    assert ticks[-1].sent is None
    assert not any(next(line.sent[:6] for line in reversed(ticks) if line.sent is not None))
